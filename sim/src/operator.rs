//! Operators of the simulated cluster: what they ask of the node that they happen to be connected to. They wait for no answer; what
//! is still paused when all is healed they resume, and in the end every node shall serve: that they repeat until it is so.

use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use model::controller::OperationState;
use model::{NodeId, PartitionIndex};
use node::broker::{Broker, NotBegun};

use crate::checker::operations_finish::OVER;
use crate::fault::Fault;

/// What `fault` has operators ask `broker`, if it is theirs; `nth` tells a partition by its number.
pub fn work(
    fault: &Fault,
    broker: Broker,
    nth: impl Fn(u32) -> Option<(String, PartitionIndex)>,
) -> Option<BoxFuture<'static, ()>> {
    let asked = match *fault {
        Fault::Rebalance => async move { broker.rebalance(false).await.map(drop) }.boxed(),
        Fault::Relocate { nth: number, ref to } => {
            let (topic, index) = nth(number)?;
            let to = to.iter().copied().map(NodeId).collect();
            async move { broker.move_partition(&topic, index, to).await.map(drop) }.boxed()
        }
        Fault::Drain { node } => async move { broker.drain(NodeId(node), false).await.map(drop) }.boxed(),
        Fault::Decommission { node } => async move { broker.decommission(NodeId(node)).await.map(drop) }.boxed(),
        Fault::Recommission { node } => async move { broker.restore(NodeId(node)).await }.boxed(),
        Fault::Halt => steer_all(broker, OperationState::Paused).boxed(),
        Fault::GoOn => steer_all(broker, OperationState::Running).boxed(),
        Fault::Cancel => steer_all(broker, OperationState::Cancelled).boxed(),
        _ => return None,
    };
    Some(asked.map(|_done_or_not| ()).boxed())
}

async fn steer_all(broker: Broker, to: OperationState) -> Result<(), NotBegun> {
    let open: Vec<u64> = broker.image().open_operations().map(|operation| operation.id).collect();
    for id in open {
        if let Err(NotBegun::Broker(error)) = broker.steer(id, to).await {
            return Err(error.into());
        }
    }
    Ok(())
}

/// All is healed: what is left to put in order, if anything is.
pub fn put_in_order(at: Duration, broker: Broker) -> Option<BoxFuture<'static, ()>> {
    let image = broker.image();
    if image.open_operations().any(|operation| operation.state == OperationState::Paused) {
        return work(&Fault::GoOn, broker, |_| None);
    }
    let out_of_service = *image.duties.keys().next().filter(|_| at >= OVER)?;
    work(&Fault::Recommission { node: out_of_service.0 }, broker, |_| None)
}
