//! All methods, from one list: class, name, id, arguments in their order. Both directions come from it.
//! Invariant: a payload that decodes has no byte left over; bits that are reserved are read and forgotten.
//! Never: says who may send a method, or when.

use bytes::Bytes;

use super::field::{Argument, Reader, ShortStr, Writer};
use super::{Error, Result, Table};

/// `[..]` are reserved arguments in front of or behind the others: on the wire, and nowhere else.
macro_rules! classes {
    ($($Class:ident $class:ident = $class_id:literal {
        $($Name:ident = $id:literal $wire_name:literal {
            $([$($before:ty),*])? $($field:ident: $type:ty),* $(; [$($after:ty),*])?
        })*
    })*) => {
        $(
            #[doc = concat!("Methods of class ", stringify!($class), ".")]
            #[allow(missing_docs, reason = "names and meanings are the specification's")]
            pub mod $class {
                use super::*;

                /// The class's id.
                pub const CLASS: u16 = $class_id;

                $(
                    #[doc = concat!(stringify!($class), ".", $wire_name)]
                    #[derive(Debug, Clone, Default, PartialEq, Eq)]
                    pub struct $Name { $(pub $field: $type),* }

                    impl From<$Name> for super::Method {
                        fn from(method: $Name) -> Self {
                            Self::$Class(Method::$Name(method))
                        }
                    }

                    impl Argument for $Name {
                        #[allow(unused_variables, reason = "a method may have no arguments")]
                        fn read(from: &mut Reader, what: &'static str) -> Result<Self> {
                            $($(<$before>::read(from, what)?;)*)?
                            let method = Self { $($field: Argument::read(from, stringify!($field))?),* };
                            $($(<$after>::read(from, what)?;)*)?
                            Ok(method)
                        }

                        #[allow(unused_variables, reason = "a method may have no arguments")]
                        fn write(&self, to: &mut Writer<'_>) {
                            $($(<$before>::default().write(to);)*)?
                            $(self.$field.write(to);)*
                            $($(<$after>::default().write(to);)*)?
                        }
                    }
                )*

                /// One of the class's methods.
                #[derive(Debug, Clone, PartialEq, Eq)]
                pub enum Method { $($Name($Name)),* }

                impl Method {
                    pub(super) fn read(id: u16, from: &mut Reader) -> Result<Self> {
                        match id {
                            $($id => Argument::read(from, $wire_name).map(Self::$Name),)*
                            method => Err(Error::UnknownMethod { class: CLASS, method }),
                        }
                    }

                    pub(super) fn write(&self, to: &mut Writer<'_>) {
                        self.id().write(to);
                        match self { $(Self::$Name(method) => method.write(to)),* }
                    }

                    /// The id within the class.
                    #[must_use]
                    pub const fn id(&self) -> u16 {
                        match self { $(Self::$Name(_) => $id),* }
                    }

                    /// Class and name, as error messages cite it.
                    #[must_use]
                    pub const fn name(&self) -> &'static str {
                        match self { $(Self::$Name(_) => concat!(stringify!($class), ".", $wire_name)),* }
                    }
                }
            }
        )*

        /// A method of any class.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the modules of the same names say it")]
        pub enum Method { $($Class($class::Method)),* }

        impl Method {
            /// Reads the payload of a method frame.
            ///
            /// # Errors
            /// [`Error::UnknownMethod`], [`Error::Malformed`].
            pub fn decode(payload: Bytes) -> Result<Self> {
                let mut from = Reader::new(payload);
                let (class, id) = (u16::read(&mut from, "class id")?, u16::read(&mut from, "method id")?);
                let method = match class {
                    $($class_id => $class::Method::read(id, &mut from).map(Self::$Class),)*
                    _ => Err(Error::UnknownMethod { class, method: id }),
                }?;
                from.finish(method.name())?;
                Ok(method)
            }

            pub(crate) fn write(&self, to: &mut Writer<'_>) {
                self.id().0.write(to);
                match self { $(Self::$Class(method) => method.write(to)),* }
            }

            /// Class id and method id, as connection.close and channel.close cite them.
            #[must_use]
            pub const fn id(&self) -> (u16, u16) {
                match self { $(Self::$Class(method) => ($class_id, method.id())),* }
            }

            /// Class and name, such as `queue.declare-ok`.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self { $(Self::$Class(method) => method.name()),* }
            }

            /// One of each, with random arguments.
            #[cfg(test)]
            pub(crate) fn samples(random: &mut crate::bound::generate::Random) -> Vec<Self> {
                use super::tests::sample::Sample;
                vec![$($($class::$Name { $($field: <$type as Sample>::sample(random)),* }.into()),*),*]
            }
        }
    };
}

impl Method {
    /// Class id and method id of a payload that may be otherwise malformed: what to cite in answer to it.
    #[must_use]
    pub fn id_of(payload: &[u8]) -> Option<(u16, u16)> {
        let [c1, c0, m1, m0] = *payload.first_chunk()?;
        Some((u16::from_be_bytes([c1, c0]), u16::from_be_bytes([m1, m0])))
    }

    /// Whether a content header and a body follow.
    #[must_use]
    pub const fn has_content(&self) -> bool {
        use basic::Method::{Deliver, GetOk, Publish, Return};
        matches!(self, Self::Basic(Publish(_) | Return(_) | Deliver(_) | GetOk(_)))
    }
}

classes! {
    Connection connection = 10 {
        Start = 10 "start" {
            version_major: u8, version_minor: u8, server_properties: Table, mechanisms: Bytes, locales: Bytes
        }
        StartOk = 11 "start-ok" { client_properties: Table, mechanism: ShortStr, response: Bytes, locale: ShortStr }
        Secure = 20 "secure" { challenge: Bytes }
        SecureOk = 21 "secure-ok" { response: Bytes }
        Tune = 30 "tune" { channel_max: u16, frame_max: u32, heartbeat: u16 }
        TuneOk = 31 "tune-ok" { channel_max: u16, frame_max: u32, heartbeat: u16 }
        Open = 40 "open" { virtual_host: ShortStr; [ShortStr, bool] }
        OpenOk = 41 "open-ok" { [ShortStr] }
        Close = 50 "close" { reply_code: u16, reply_text: ShortStr, class_id: u16, method_id: u16 }
        CloseOk = 51 "close-ok" {}
        Blocked = 60 "blocked" { reason: ShortStr }
        Unblocked = 61 "unblocked" {}
        UpdateSecret = 70 "update-secret" { new_secret: Bytes, reason: ShortStr }
        UpdateSecretOk = 71 "update-secret-ok" {}
    }
    Channel channel = 20 {
        Open = 10 "open" { [ShortStr] }
        OpenOk = 11 "open-ok" { [Bytes] }
        Flow = 20 "flow" { active: bool }
        FlowOk = 21 "flow-ok" { active: bool }
        Close = 40 "close" { reply_code: u16, reply_text: ShortStr, class_id: u16, method_id: u16 }
        CloseOk = 41 "close-ok" {}
    }
    Access access = 30 {
        Request = 10 "request" { realm: ShortStr, exclusive: bool, passive: bool, active: bool, write: bool, read: bool }
        RequestOk = 11 "request-ok" { ticket: u16 }
    }
    Exchange exchange = 40 {
        Declare = 10 "declare" {
            [u16] exchange: ShortStr, kind: ShortStr, passive: bool, durable: bool, auto_delete: bool, internal: bool,
            no_wait: bool, arguments: Table
        }
        DeclareOk = 11 "declare-ok" {}
        Delete = 20 "delete" { [u16] exchange: ShortStr, if_unused: bool, no_wait: bool }
        DeleteOk = 21 "delete-ok" {}
        Bind = 30 "bind" {
            [u16] destination: ShortStr, source: ShortStr, routing_key: ShortStr, no_wait: bool, arguments: Table
        }
        BindOk = 31 "bind-ok" {}
        Unbind = 40 "unbind" {
            [u16] destination: ShortStr, source: ShortStr, routing_key: ShortStr, no_wait: bool, arguments: Table
        }
        UnbindOk = 51 "unbind-ok" {}
    }
    Queue queue = 50 {
        Declare = 10 "declare" {
            [u16] queue: ShortStr, passive: bool, durable: bool, exclusive: bool, auto_delete: bool, no_wait: bool,
            arguments: Table
        }
        DeclareOk = 11 "declare-ok" { queue: ShortStr, message_count: u32, consumer_count: u32 }
        Bind = 20 "bind" {
            [u16] queue: ShortStr, exchange: ShortStr, routing_key: ShortStr, no_wait: bool, arguments: Table
        }
        BindOk = 21 "bind-ok" {}
        Purge = 30 "purge" { [u16] queue: ShortStr, no_wait: bool }
        PurgeOk = 31 "purge-ok" { message_count: u32 }
        Delete = 40 "delete" { [u16] queue: ShortStr, if_unused: bool, if_empty: bool, no_wait: bool }
        DeleteOk = 41 "delete-ok" { message_count: u32 }
        Unbind = 50 "unbind" { [u16] queue: ShortStr, exchange: ShortStr, routing_key: ShortStr, arguments: Table }
        UnbindOk = 51 "unbind-ok" {}
    }
    Basic basic = 60 {
        Qos = 10 "qos" { prefetch_size: u32, prefetch_count: u16, global: bool }
        QosOk = 11 "qos-ok" {}
        Consume = 20 "consume" {
            [u16] queue: ShortStr, consumer_tag: ShortStr, no_local: bool, no_ack: bool, exclusive: bool, no_wait: bool,
            arguments: Table
        }
        ConsumeOk = 21 "consume-ok" { consumer_tag: ShortStr }
        Cancel = 30 "cancel" { consumer_tag: ShortStr, no_wait: bool }
        CancelOk = 31 "cancel-ok" { consumer_tag: ShortStr }
        Publish = 40 "publish" { [u16] exchange: ShortStr, routing_key: ShortStr, mandatory: bool, immediate: bool }
        Return = 50 "return" { reply_code: u16, reply_text: ShortStr, exchange: ShortStr, routing_key: ShortStr }
        Deliver = 60 "deliver" {
            consumer_tag: ShortStr, delivery_tag: u64, redelivered: bool, exchange: ShortStr, routing_key: ShortStr
        }
        Get = 70 "get" { [u16] queue: ShortStr, no_ack: bool }
        GetOk = 71 "get-ok" {
            delivery_tag: u64, redelivered: bool, exchange: ShortStr, routing_key: ShortStr, message_count: u32
        }
        GetEmpty = 72 "get-empty" { [ShortStr] }
        Ack = 80 "ack" { delivery_tag: u64, multiple: bool }
        Reject = 90 "reject" { delivery_tag: u64, requeue: bool }
        RecoverAsync = 100 "recover-async" { requeue: bool }
        Recover = 110 "recover" { requeue: bool }
        RecoverOk = 111 "recover-ok" {}
        Nack = 120 "nack" { delivery_tag: u64, multiple: bool, requeue: bool }
    }
    Confirm confirm = 85 {
        Select = 10 "select" { no_wait: bool }
        SelectOk = 11 "select-ok" {}
    }
    Tx tx = 90 {
        Select = 10 "select" {}
        SelectOk = 11 "select-ok" {}
        Commit = 20 "commit" {}
        CommitOk = 21 "commit-ok" {}
        Rollback = 30 "rollback" {}
        RollbackOk = 31 "rollback-ok" {}
    }
}
