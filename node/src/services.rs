//! What this node does for its peers: one object behind the peer listener, made of the rooms that do it.
use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use model::{GroupId, NodeId};

use crate::bootstrap::Bootstrap;
use crate::broker::Broker;
use crate::peer::hello::Hello;
use crate::peer::listener::Services;
use crate::peer::messages::{Heartbeat, Visit, Visited};
use crate::peer::questions::{Answered, Question};
use crate::router::{PeerState, Router};

/// The services of one node.
pub struct NodeServices {
    /// This start of it.
    pub boot: u64,
    /// Its rafts.
    pub groups: raft::Groups,
    /// Where heartbeats are noted.
    pub router: Arc<Router>,
    /// Carries out forwarded commands.
    pub broker: Broker,
    /// Founding and joining.
    pub bootstrap: Arc<Bootstrap>,
}

impl Services for NodeServices {
    fn raft(
        &self,
        from: NodeId,
        group: GroupId,
        request: raft::Frame,
    ) -> BoxFuture<'static, Result<raft::Frame, String>> {
        self.groups.handle(from, group, request).map(|done| done.map_err(|error| error.to_string())).boxed()
    }

    fn control(&self, _from: NodeId, command: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        let broker = self.broker.clone();
        async move { broker.serve_control(command).await }.boxed()
    }

    fn ask(&self, _from: NodeId, question: Question) -> BoxFuture<'static, Result<Answered, String>> {
        let broker = self.broker.clone();
        async move { broker.serve_question(question).await }.boxed()
    }

    fn queue(
        &self,
        from: NodeId,
        group: GroupId,
        head: Bytes,
        body: Vec<Bytes>,
    ) -> BoxFuture<'static, Result<(Bytes, Vec<Bytes>), String>> {
        self.broker.serve_queue(from, group, head, body)
    }

    fn heartbeat(&self, from: NodeId, heartbeat: Heartbeat) {
        let Heartbeat { boot, hears, image_version, synced: _, disk_ok, stopping, leads } = heartbeat;
        let leads = leads.map(|leads| leads.into_iter().collect());
        let said = PeerState::now(boot, hears == Some(self.boot), image_version, disk_ok, stopping);
        if self.router.heard(from, said, leads) {
            tracing::info!(node = from.0, "a node has restarted");
        }
    }

    fn visit(&self, from: Hello, visit: Visit) -> BoxFuture<'static, Result<Visited, String>> {
        let bootstrap = self.bootstrap.clone();
        async move { bootstrap.visit(from, visit).await }.boxed()
    }
}
