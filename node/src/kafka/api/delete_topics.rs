//! DeleteTopics (20): by name, or by id from version 6 on (KIP-516).
use model::TopicId;
use model::controller::{Command, DeleteTopics, Outcome, TopicRef};
use wire::kafka::messages::delete_topics::{DeletableTopicResult, DeleteTopicState};
use wire::kafka::messages::{DeleteTopicsRequest, DeleteTopicsResponse};
use wire::kafka::{ErrorCode, Str, Uuid};

use super::control::{self, patience, refuse_twice};
use super::uuid;
use crate::kafka::Call;
use crate::kafka::errors::Refusal;

/// Topics may be named by id from here on.
const IDS_FROM: i16 = 6;

/// Answers every version.
pub(in crate::kafka) async fn answer(call: Call, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let asked = match call.version {
        IDS_FROM.. => request.topics,
        _ => request.topic_names.into_iter().map(by_name).collect(),
    };
    let keys = asked.iter().map(|asked| {
        let name = asked.name.as_ref().map(|name| name.as_str().to_owned());
        ((name, asked.topic_id.to_bytes()), asked.clone())
    });
    let words = |(name, id): &(Option<String>, [u8; 16])| match name {
        Some(name) => format!("Duplicate topic name '{name}'."),
        None => format!("Duplicate topic id {}.", TopicId(*id)),
    };
    let items = refuse_twice(keys.collect(), words);
    let items = items.into_iter().map(|item| reference(&item?.1)).collect();
    let command = |topics| Command::DeleteTopics(DeleteTopics { topics });
    let results = control::each(&call, patience(request.timeout_ms), items, command, |outcome| match outcome {
        Outcome::Deleted(results) => Some(results),
        _ => None,
    });
    let responses = asked.into_iter().zip(results.await).map(|(asked, result)| match result {
        Ok(deleted) => {
            DeletableTopicResult { name: Some(deleted.name.into()), topic_id: uuid(deleted.id), ..Default::default() }
        }
        Err(refusal) => DeletableTopicResult {
            name: asked.name,
            topic_id: asked.topic_id,
            error_code: refusal.code.code(),
            error_message: refusal.text(),
            ..Default::default()
        },
    });
    DeleteTopicsResponse { responses: responses.collect(), ..Default::default() }
}

fn by_name(name: Str) -> DeleteTopicState {
    DeleteTopicState { name: Some(name), ..Default::default() }
}

fn reference(asked: &DeleteTopicState) -> Result<TopicRef, Refusal> {
    let refuse = |words: &str| Err(Refusal::new(ErrorCode::InvalidRequest, words));
    match &asked.name {
        Some(_) if asked.topic_id != Uuid::ZERO => refuse("You may not specify both topic name and topic id."),
        Some(name) => Ok(TopicRef::Name(name.as_str().to_owned())),
        None if asked.topic_id == Uuid::ZERO => refuse("Neither topic name nor id were specified."),
        None => Ok(TopicRef::Id(TopicId(asked.topic_id.to_bytes()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_named_in_one_way() {
        let id = Uuid::from_parts(1, 2);
        let asked = |name: Option<&'static str>, topic_id| DeleteTopicState {
            name: name.map(Str::from_static),
            topic_id,
            ..Default::default()
        };
        assert_eq!(reference(&asked(Some("t"), Uuid::ZERO)), Ok(TopicRef::Name("t".into())));
        assert_eq!(reference(&asked(None, id)), Ok(TopicRef::Id(TopicId(id.to_bytes()))));
        assert_eq!(reference(&asked(Some("t"), id)).unwrap_err().code, ErrorCode::InvalidRequest);
        assert_eq!(reference(&asked(None, Uuid::ZERO)).unwrap_err().code, ErrorCode::InvalidRequest);
    }
}
