//! The 15 control message types: number, length, name, and who may send them (RFC 2637 §2).

use std::fmt;

/// Who may send a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Both ends.
    Any,
    /// Only the PPTP network server (the one that calls out, or is called by the access concentrator).
    PnsToPac,
    /// Only the PPTP access concentrator.
    PacToPns,
}

/// What is known about the sender of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// It is the PNS (pptp-linux, Windows clients).
    Pns,
    /// It is the PAC (pptpd, accel-ppp, RRAS).
    Pac,
    /// Not known yet: no direction is wrong.
    Either,
}

impl Direction {
    /// Whether `sender` may send a message of this direction.
    pub const fn allows(self, sender: Sender) -> bool {
        match (self, sender) {
            (Self::Any, Sender::Pns | Sender::Pac | Sender::Either) => true,
            (Self::PnsToPac, Sender::Pns | Sender::Either) => true,
            (Self::PacToPns, Sender::Pac | Sender::Either) => true,
            (Self::PnsToPac, Sender::Pac) | (Self::PacToPns, Sender::Pns) => false,
        }
    }
}

macro_rules! control_types {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $length:literal, $direction:ident, $label:literal;)*) => {
        /// A control message type.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum ControlType { $($(#[$doc])* $name = $number,)* }

        impl ControlType {
            /// All of them, by number.
            pub const ALL: [Self; 15] = [$(Self::$name,)*];

            /// The type with this number.
            pub const fn new(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }

            /// Length of the whole message in octets.
            pub const fn length(self) -> usize {
                match self { $(Self::$name => $length,)* }
            }

            /// Whether messages of this number are about a call: 7 to 15.
            pub const fn is_about_call(number: u16) -> bool {
                number >= Self::OutgoingCallRequest as u16 && number <= Self::SetLinkInfo as u16
            }

            /// Who may send it.
            pub const fn direction(self) -> Direction {
                match self { $(Self::$name => Direction::$direction,)* }
            }

            /// Its name in RFC 2637.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }
        }
    };
}

control_types! {
    /// Opens the control connection.
    StartRequest = 1, 156, Any, "Start-Control-Connection-Request";
    /// Answers it.
    StartReply = 2, 156, Any, "Start-Control-Connection-Reply";
    /// Closes the control connection.
    StopRequest = 3, 16, Any, "Stop-Control-Connection-Request";
    /// Answers it.
    StopReply = 4, 16, Any, "Stop-Control-Connection-Reply";
    /// Keep-alive.
    EchoRequest = 5, 16, Any, "Echo-Request";
    /// Answers it.
    EchoReply = 6, 20, Any, "Echo-Reply";
    /// The PNS asks for a call.
    OutgoingCallRequest = 7, 168, PnsToPac, "Outgoing-Call-Request";
    /// The PAC answers it.
    OutgoingCallReply = 8, 32, PacToPns, "Outgoing-Call-Reply";
    /// The PAC reports a call that came in.
    IncomingCallRequest = 9, 220, PacToPns, "Incoming-Call-Request";
    /// The PNS answers it.
    IncomingCallReply = 10, 24, PnsToPac, "Incoming-Call-Reply";
    /// The PAC has connected the call.
    IncomingCallConnected = 11, 28, PacToPns, "Incoming-Call-Connected";
    /// The PNS ends a call.
    CallClearRequest = 12, 16, PnsToPac, "Call-Clear-Request";
    /// The PAC has ended a call.
    CallDisconnectNotify = 13, 148, PacToPns, "Call-Disconnect-Notify";
    /// The PAC reports line errors.
    WanErrorNotify = 14, 40, PacToPns, "WAN-Error-Notify";
    /// The PNS sets PPP's character maps.
    SetLinkInfo = 15, 24, PnsToPac, "Set-Link-Info";
}

impl fmt::Display for ControlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::super::MAX_MESSAGE_LEN;
    use super::*;

    #[test]
    fn numbers_and_types_agree_and_nothing_is_longer_than_the_maximum() {
        for (index, control_type) in ControlType::ALL.into_iter().enumerate() {
            let number = index as u16 + 1;
            assert_eq!(control_type as u16, number);
            assert_eq!(ControlType::new(number), Some(control_type));
        }
        assert_eq!((ControlType::new(0), ControlType::new(16)), (None, None));
        assert_eq!(ControlType::ALL.iter().map(|t| t.length()).max(), Some(MAX_MESSAGE_LEN));
    }

    #[test]
    fn a_side_may_only_send_what_its_role_sends() {
        let allowed = |sender| -> Vec<u16> {
            ControlType::ALL.into_iter().filter(|t| t.direction().allows(sender)).map(|t| t as u16).collect()
        };
        assert_eq!(allowed(Sender::Pns), [1, 2, 3, 4, 5, 6, 7, 10, 12, 15]);
        assert_eq!(allowed(Sender::Pac), [1, 2, 3, 4, 5, 6, 8, 9, 11, 13, 14]);
        assert_eq!(allowed(Sender::Either).len(), 15);
        let about: Vec<u16> = (0..=u16::MAX).filter(|number| ControlType::is_about_call(*number)).collect();
        assert_eq!(about, (7..=15).collect::<Vec<_>>());
        let has_direction = |t: &ControlType| t.direction() != Direction::Any;
        assert_eq!(ControlType::ALL.into_iter().filter(has_direction).map(|t| t as u16).collect::<Vec<_>>(), about);
    }
}
