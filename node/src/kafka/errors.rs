//! The broker's errors in Kafka's codes: one mapping for every API.
//! Never: invents a code that a Kafka broker would not give for the same cause.
use model::machine::AppendError;
use wire::kafka::{ErrorCode, Str};

use crate::broker::Error;

/// What a client is told when something is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Kafka's code.
    pub(super) code: ErrorCode,
    /// Words for people, where the API has a field for them.
    pub(super) message: Option<String>,
    /// Of a batch the records that are to blame, by their place in it.
    pub(super) records: Vec<i32>,
}

impl Refusal {
    /// A refusal with words.
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: Some(message.into()), records: Vec::new() }
    }

    /// The number of a refusal, or of success.
    pub(super) fn code_of(refusal: Option<&Self>) -> i16 {
        refusal.map_or(ErrorCode::None, |refusal| refusal.code).code()
    }

    /// The words as the wire wants them.
    pub(super) fn text(&self) -> Option<Str> {
        self.message.clone().map(Str::from)
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self { code, message: None, records: Vec::new() }
    }
}

/// Which family of APIs asks: clients know different retriable codes in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// Produce.
    Append,
    /// Fetch, ListOffsets, OffsetForLeaderEpoch.
    Read,
    /// Everything that changes or describes the cluster.
    Control,
}

impl Verb {
    /// The code and words for a broker error.
    pub(super) fn refusal(self, error: &Error) -> Refusal {
        Refusal::new(self.code(error), error.to_string())
    }

    /// The Kafka code of a broker error.
    pub(super) fn code(self, error: &Error) -> ErrorCode {
        match error {
            Error::NotLeader { .. } if self == Verb::Control => ErrorCode::NotController,
            Error::NotLeader { .. } => ErrorCode::NotLeaderOrFollower,
            Error::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
            Error::FencedEpoch { .. } => ErrorCode::FencedLeaderEpoch,
            Error::UnknownEpoch => ErrorCode::UnknownLeaderEpoch,
            Error::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            Error::OffsetNotAvailable => ErrorCode::OffsetNotAvailable,
            Error::Timeout | Error::Busy if self == Verb::Read => ErrorCode::OffsetNotAvailable,
            Error::Timeout => ErrorCode::RequestTimedOut,
            Error::Busy if self == Verb::Append => ErrorCode::NotEnoughReplicas,
            Error::Busy => ErrorCode::ThrottlingQuotaExceeded,
            Error::Rejected(rejected) => append_code(*rejected),
            Error::Unavailable(_) => ErrorCode::KafkaStorageError,
        }
    }
}

fn append_code(error: AppendError) -> ErrorCode {
    match error {
        AppendError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
        AppendError::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        AppendError::InvalidRecord => ErrorCode::InvalidRecord,
        AppendError::Transactional => ErrorCode::InvalidTxnState,
        AppendError::OffsetsExhausted => ErrorCode::KafkaStorageError,
        AppendError::QueueFull | AppendError::EarlyLetter => ErrorCode::NotEnoughReplicas,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Leader;

    #[test]
    fn busy_and_late_are_retriable_in_the_words_of_each_api() {
        assert_eq!(Verb::Append.code(&Error::Busy), ErrorCode::NotEnoughReplicas);
        assert_eq!(Verb::Read.code(&Error::Busy), ErrorCode::OffsetNotAvailable);
        assert_eq!(Verb::Control.code(&Error::Busy), ErrorCode::ThrottlingQuotaExceeded);
        assert_eq!(Verb::Append.code(&Error::Timeout), ErrorCode::RequestTimedOut);
    }

    #[test]
    fn the_wrong_node_is_named_by_what_was_asked_of_it() {
        let error = Error::NotLeader { leader: Leader::default() };
        assert_eq!(Verb::Read.code(&error), ErrorCode::NotLeaderOrFollower);
        assert_eq!(Verb::Control.code(&error), ErrorCode::NotController);
    }

    #[test]
    fn producers_hear_why_their_sequence_was_refused() {
        let gap = AppendError::OutOfOrderSequence { first: 7, last: 3 };
        assert_eq!(Verb::Append.code(&gap.into()), ErrorCode::OutOfOrderSequenceNumber);
        let fenced = AppendError::InvalidProducerEpoch { epoch: 0, current: 1 };
        assert_eq!(Verb::Append.code(&fenced.into()), ErrorCode::InvalidProducerEpoch);
        assert_eq!(Verb::Append.code(&AppendError::Transactional.into()), ErrorCode::InvalidTxnState);
    }
}
