//! Result, error and reason codes, one enum a field; a value nobody defined is kept (RFC 2637 §2).

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $value:literal,)* })*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$vdoc])* $variant,)*
            /// A value RFC 2637 does not define.
            Unknown(u8),
        }

        impl From<u8> for $name {
            fn from(value: u8) -> Self {
                match value { $($value => Self::$variant,)* other => Self::Unknown(other) }
            }
        }

        impl From<$name> for u8 {
            fn from(code: $name) -> Self {
                match code { $($name::$variant => $value,)* $name::Unknown(other) => other }
            }
        }

        impl super::codec::Field for $name {
            const SIZE: usize = 1;
            fn get(bytes: &[u8], at: usize) -> Self {
                Self::from(crate::wire::bytes::u8_at(bytes, at))
            }
            fn put(self, bytes: &mut [u8], at: usize) {
                crate::wire::bytes::put(bytes, at, &[self.into()]);
            }
        }
    )*

    #[cfg(test)]
    mod tests {
        #[test]
        fn every_value_is_kept() {
            for value in 0..=u8::MAX {
                $(assert_eq!(u8::from(super::$name::from(value)), value);)*
            }
        }
    } };
}

codes! {
    /// General error code: more about a result of "general error" (RFC 2637 §2.16).
    GeneralError {
        /// No general error.
        None = 0,
        /// No control connection exists yet for this PAC and PNS.
        NotConnected = 1,
        /// Length or cookie is wrong.
        BadFormat = 2,
        /// A field is out of range, or a reserved one not zero.
        BadValue = 3,
        /// Not enough resources now.
        NoResource = 4,
        /// The Call ID is invalid in this context.
        BadCallId = 5,
        /// An error of the PAC's vendor.
        PacError = 6,
    }

    /// Result of a Start-Control-Connection-Request.
    StartResult {
        /// The channel is established.
        Ok = 1,
        /// See the general error.
        GeneralError = 2,
        /// There is a command channel already.
        ChannelExists = 3,
        /// The requester may not have one.
        NotAuthorized = 4,
        /// The protocol version is not supported.
        UnsupportedVersion = 5,
    }

    /// Why a control connection is being closed.
    StopReason {
        /// General request.
        None = 1,
        /// The peer's protocol version is not supported.
        StopProtocol = 2,
        /// The requester is being shut down.
        StopLocalShutdown = 3,
    }

    /// Result of a Stop-Control-Connection-Request.
    StopResult {
        /// Closed.
        Ok = 1,
        /// See the general error.
        GeneralError = 2,
    }

    /// Result of an Echo-Request.
    EchoResult {
        /// Alive.
        Ok = 1,
        /// See the general error.
        GeneralError = 2,
    }

    /// Result of an Outgoing-Call-Request.
    OutgoingResult {
        /// The call is up.
        Connected = 1,
        /// See the general error.
        GeneralError = 2,
        /// No carrier.
        NoCarrier = 3,
        /// Busy.
        Busy = 4,
        /// No dial tone.
        NoDialTone = 5,
        /// The PAC gave up in time.
        TimeOut = 6,
        /// Forbidden by the PAC's administrator.
        DoNotAccept = 7,
    }

    /// Result of an Incoming-Call-Request.
    IncomingResult {
        /// The PAC shall answer the call.
        Connect = 1,
        /// See the general error.
        GeneralError = 2,
        /// The PAC shall not take it.
        DoNotAccept = 3,
    }

    /// Why a call has ended.
    DisconnectResult {
        /// Carrier lost.
        LostCarrier = 1,
        /// See the general error.
        GeneralError = 2,
        /// Administrative reasons.
        AdminShutdown = 3,
        /// A Call-Clear-Request asked for it.
        Request = 4,
    }
}
