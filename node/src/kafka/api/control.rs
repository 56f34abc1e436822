//! Requests with several items that go to the controller as one command: what is refused here stays here, the rest
//! is proposed, and every item gets its own answer in its own place.
use std::collections::BTreeMap;
use std::time::Duration;

use model::controller::{self, Command, Outcome};
use tokio::time::{Instant, sleep, timeout};
use wire::kafka::ErrorCode;

use crate::kafka::Call;
use crate::kafka::errors::{Refusal, Verb};
use crate::kafka::view;

/// Patience of requests that do not say how long to wait: Kafka's `request.timeout.ms`.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Longest wait that a client may ask for.
const PATIENCE_MAX: Duration = Duration::from_secs(300);
/// How often a new partition's leader is looked for.
const LEADER_TICK: Duration = Duration::from_millis(2);

/// A client's `timeout_ms`. Zero and less still mean one attempt.
pub(super) fn patience(timeout_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0).max(1)).min(PATIENCE_MAX)
}

/// Proposes the items that were not refused; `command` makes the command of them, `results` takes its outcome apart.
pub(super) async fn each<T, R>(
    call: &Call,
    patience: Duration,
    items: Vec<Result<T, Refusal>>,
    command: impl FnOnce(Vec<T>) -> Command,
    results: impl FnOnce(Outcome) -> Option<Vec<Result<R, controller::Error>>>,
) -> Vec<Result<R, Refusal>> {
    let mut refusals = Vec::with_capacity(items.len());
    let mut proposed = Vec::new();
    for item in items {
        refusals.push(item.map(|item| proposed.push(item)).err());
    }
    let count = proposed.len();
    let answers = match count {
        0 => Ok(Vec::new()),
        _ => propose(call, patience, command(proposed), results).await,
    };
    let answers = match answers {
        Ok(answers) if answers.len() == count => answers,
        Ok(_) => (0..count).map(|_| Err(mismatch())).collect(),
        Err(refusal) => (0..count).map(|_| Err(refusal.clone())).collect(),
    };
    let mut answers = answers.into_iter();
    let answer = |refusal| match refusal {
        Some(refusal) => Err(refusal),
        None => answers.next().unwrap_or_else(|| Err(mismatch())),
    };
    refusals.into_iter().map(answer).collect()
}

async fn propose<R>(
    call: &Call,
    patience: Duration,
    command: Command,
    results: impl FnOnce(Outcome) -> Option<Vec<Result<R, controller::Error>>>,
) -> Result<Vec<Result<R, Refusal>>, Refusal> {
    let reply = match timeout(patience, call.broker().control(command)).await {
        Ok(reply) => reply.map_err(|error| Verb::Control.refusal(&error))?,
        Err(_elapsed) => return Err(Refusal::new(ErrorCode::RequestTimedOut, "the controller did not answer in time")),
    };
    let results = results(reply.outcome).ok_or_else(mismatch)?;
    Ok(results.into_iter().map(|result| result.map_err(refusal)).collect())
}

/// Waits until this node's Metadata names a leader of every partition of the topics just made or grown, as Kafka does: a
/// client that asks next finds them. A topic that has none by the `deadline` exists, but is answered REQUEST_TIMED_OUT.
pub(super) async fn await_leaders<T>(
    call: &Call,
    deadline: Instant,
    results: &mut [Result<T, Refusal>],
    name: impl Fn(usize, &T) -> String,
) {
    for (place, result) in results.iter_mut().enumerate() {
        let Ok(name) = result.as_ref().map(|made| name(place, made)) else { continue };
        while !is_led(call, &name) {
            if Instant::now() >= deadline {
                let words = format!("Topic '{name}' has partitions without a leader yet.");
                *result = Err(Refusal::new(ErrorCode::RequestTimedOut, words));
                break;
            }
            sleep(LEADER_TICK).await;
        }
    }
}

/// A topic that was deleted meanwhile is not waited for.
fn is_led(call: &Call, name: &str) -> bool {
    let view = view::now(call.broker());
    view.image.topic(name).is_none_or(|topic| view.is_led(topic))
}

/// The controller's refusal in Kafka's code.
fn refusal(error: controller::Error) -> Refusal {
    let code = ErrorCode::from_i16(error.code.kafka()).unwrap_or(ErrorCode::UnknownServerError);
    Refusal::new(code, error.message)
}

fn mismatch() -> Refusal {
    Refusal::new(ErrorCode::UnknownServerError, "the controller answered another question")
}

/// Refuses every item whose key is there more than once (Kafka: INVALID_REQUEST), keeping all in place.
pub(super) fn refuse_twice<K: Ord, T>(
    items: Vec<(K, T)>,
    words: impl Fn(&K) -> String,
) -> Vec<Result<(K, T), Refusal>> {
    let mut counts = BTreeMap::new();
    let places: Vec<usize> = items
        .iter()
        .map(|(key, _)| {
            let next = counts.len();
            counts.entry(key).or_insert((next, 0)).1 += 1;
            counts[key].0
        })
        .collect();
    let mut times = vec![0; counts.len()];
    for (place, count) in counts.into_values() {
        times[place] = count;
    }
    let judge = |(item, place): ((K, T), usize)| match times[place] {
        1 => Ok(item),
        _ => Err(Refusal::new(ErrorCode::InvalidRequest, words(&item.0))),
    };
    items.into_iter().zip(places).map(judge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_is_refused_everywhere_once_stays() {
        let items = vec![("a", 1), ("b", 2), ("a", 3), ("c", 4)];
        let judged = refuse_twice(items, |key| format!("Duplicate '{key}'"));
        assert_eq!(judged[1], Ok(("b", 2)));
        assert_eq!(judged[3], Ok(("c", 4)));
        for place in [0, 2] {
            assert_eq!(judged[place], Err(Refusal::new(ErrorCode::InvalidRequest, "Duplicate 'a'")));
        }
    }

    #[test]
    fn patience_is_never_zero_and_never_endless() {
        assert_eq!(patience(-1), Duration::from_millis(1));
        assert_eq!(patience(5000), Duration::from_secs(5));
        assert_eq!(patience(i32::MAX), PATIENCE_MAX);
    }
}
