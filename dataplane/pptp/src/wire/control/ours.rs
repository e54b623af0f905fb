//! Messages the gateway says in its own name: refusals, the end of a call, the end of a connection.

use super::{
    CallClearRequest, CallDisconnectNotify, DisconnectResult, GeneralError, IncomingCallReply, IncomingResult,
    OutgoingCallReply, OutgoingResult, StopReason, StopRequest,
};

/// A refusal of an outgoing call, as from the PAC.
pub(crate) fn outgoing_refusal(pns: u16, result: OutgoingResult, error: GeneralError) -> Vec<u8> {
    let reply = OutgoingCallReply {
        reserved0: 0,
        call_id: 0,
        peer_call_id: pns,
        result,
        error,
        cause: 0,
        connect_speed: 0,
        window: 0,
        processing_delay: 0,
        physical_channel: 0,
    };
    reply.to_bytes()
}

/// A refusal of an incoming call, as from the PNS.
pub(crate) fn incoming_refusal(pac: u16, result: IncomingResult, error: GeneralError) -> Vec<u8> {
    let reply = IncomingCallReply {
        reserved0: 0,
        call_id: 0,
        peer_call_id: pac,
        result,
        error,
        window: 0,
        transit_delay: 0,
        reserved1: 0,
    };
    reply.to_bytes()
}

/// The end of a call, as from the PAC.
pub(crate) fn disconnect_notify(pac: u16, (result, error): (DisconnectResult, GeneralError)) -> Vec<u8> {
    let statistics = [0; 128];
    CallDisconnectNotify { reserved0: 0, call_id: pac, result, error, cause: 0, reserved1: 0, statistics }.to_bytes()
}

/// The end of a call, as from the PNS.
pub(crate) fn clear_request(pns: u16) -> Vec<u8> {
    CallClearRequest { reserved0: 0, call_id: pns, reserved1: 0 }.to_bytes()
}

/// The end of a connection.
pub(crate) fn stop_request(reason: StopReason) -> Vec<u8> {
    StopRequest { reserved0: 0, reason, reserved1: 0, reserved2: 0 }.to_bytes()
}
