//! InitProducerId (22): ids for idempotent producers.
//! A transactional id is refused with TRANSACTIONAL_ID_AUTHORIZATION_FAILED: the one code that every client treats as
//! final; codes that say "later" would make clients without transactions support wait for ever.
use wire::kafka::ErrorCode;
use wire::kafka::messages::{InitProducerIdRequest, InitProducerIdResponse};

use crate::kafka::Call;
use crate::kafka::errors::Verb;

/// Answers every version.
pub(in crate::kafka) async fn answer(call: Call, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let refused = |code: ErrorCode| InitProducerIdResponse {
        error_code: code.code(),
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    match request.transactional_id {
        Some(id) if id.is_empty() => return refused(ErrorCode::InvalidRequest),
        Some(_) => return refused(ErrorCode::TransactionalIdAuthorizationFailed),
        None => {}
    }
    match call.broker().producer_id().await {
        Ok((producer_id, producer_epoch)) => {
            InitProducerIdResponse { producer_id, producer_epoch, ..Default::default() }
        }
        // Clients retry this code here; REQUEST_TIMED_OUT is final for librdkafka.
        Err(crate::broker::Error::Busy | crate::broker::Error::Timeout) => {
            refused(ErrorCode::CoordinatorLoadInProgress)
        }
        Err(error) => refused(Verb::Control.code(&error)),
    }
}
