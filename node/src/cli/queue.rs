//! `flotilla queue ...` and `flotilla exchange ...`: what AMQP clients declare, declared and looked at by operators.

mod operate;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use model::controller::topology::DEFAULT_VHOST;
use serde_json::{Value, json};

use super::output::{Format, pairs, print, table};
use super::{Admin, Output, delete, get, post, segment};
use crate::broker::queues::{QueueCounts, QueueStanding, QueueTraffic};
use crate::broker::{BindingReport, DestinationKind, ExchangeReport, QueueReport, Scalar, Values};

/// Which node to ask, and what about queues.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    admin: Admin,
    #[command(flatten)]
    output: Output,
    /// Virtual host
    #[arg(long, global = true, default_value = DEFAULT_VHOST)]
    vhost: String,
    #[command(subcommand)]
    verb: Verb,
}

/// Which node to ask, and what about exchanges.
#[derive(Debug, Args)]
pub struct ExchangeOptions {
    #[command(flatten)]
    admin: Admin,
    #[command(flatten)]
    output: Output,
    /// Virtual host
    #[arg(long, global = true, default_value = DEFAULT_VHOST)]
    vhost: String,
    #[command(subcommand)]
    verb: ExchangeVerb,
}

/// Whom to ask, how to print, and which virtual host is meant.
#[derive(Clone, Copy)]
struct At<'a> {
    address: &'a str,
    format: Format,
    vhost: &'a str,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// All queues, with their messages and consumers
    Ls,
    /// Messages, arguments, topic, leader and bindings
    Describe {
        /// Its name
        name: String,
    },
    /// Declare a queue; a topic of its name and of one partition becomes it
    Declare {
        /// Its name
        name: String,
        /// Not durable
        #[arg(long)]
        transient: bool,
        /// Deleted with its last consumer
        #[arg(long)]
        auto_delete: bool,
        /// Arguments such as x-message-ttl=60000
        #[arg(long, short, value_name = "KEY=VALUE", value_parser = argument)]
        argument: Vec<(String, Scalar)>,
    },
    /// Bind a queue to an exchange
    Bind(Binding),
    /// Remove a binding
    Unbind(Binding),
    /// Look at messages; nobody loses one by it
    Peek(operate::Peek),
    /// Forget the messages that no consumer has
    Purge {
        /// Its name
        name: String,
    },
    /// Send dead letters back to where they died, or to another queue
    Redrive(operate::Redrive),
    /// Go on from elsewhere: acknowledged messages behind it are delivered again
    Seek(operate::Seek),
    /// Delete a queue with its messages and bindings
    Delete {
        /// Its name
        name: String,
    },
}

#[derive(Debug, Subcommand)]
enum ExchangeVerb {
    /// All exchanges
    Ls,
    /// Declare an exchange
    Declare {
        /// Its name
        name: String,
        /// direct, topic, fanout, headers, x-consistent-hash or x-delayed-message
        #[arg(long = "type", short = 't', default_value = "direct")]
        kind: String,
        /// Not durable
        #[arg(long)]
        transient: bool,
        /// Deleted with its last binding
        #[arg(long)]
        auto_delete: bool,
        /// Not for clients to publish to
        #[arg(long)]
        internal: bool,
        /// Arguments such as alternate-exchange=rest
        #[arg(long, short, value_name = "KEY=VALUE", value_parser = argument)]
        argument: Vec<(String, Scalar)>,
    },
    /// Bind an exchange to an exchange
    Bind(Binding),
    /// Remove a binding
    Unbind(Binding),
    /// Delete an exchange with its bindings
    Delete {
        /// Its name
        name: String,
        /// Only if it has no bindings
        #[arg(long)]
        if_unused: bool,
    },
}

/// One binding.
#[derive(Debug, Args)]
struct Binding {
    /// The exchange that messages come from
    source: String,
    /// Where they go
    destination: String,
    /// Binding key
    #[arg(long, short, default_value = "")]
    key: String,
    /// Arguments such as x-match=any
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = argument)]
    argument: Vec<(String, Scalar)>,
}

/// `key=value`: a whole number and a truth value are what they look like, all else is text.
pub(super) fn argument(text: &str) -> Result<(String, Scalar), String> {
    let (key, value) = text.split_once('=').ok_or("KEY=VALUE is expected")?;
    let number = value.parse().map(Scalar::Int);
    let value = number.or_else(|_| value.parse().map(Scalar::Bool)).unwrap_or_else(|_| Scalar::Text(value.to_owned()));
    Ok((key.to_owned(), value))
}

fn values(given: Vec<(String, Scalar)>) -> Values {
    given.into_iter().collect()
}

/// Runs a command about queues.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let at = At { address: &options.admin.admin, format: options.output.output, vhost: &options.vhost };
    match options.verb {
        Verb::Ls => ls(at).await?,
        Verb::Describe { name } => describe(at, &name).await?,
        Verb::Declare { name, transient, auto_delete, argument } => {
            let (durable, arguments) = (!transient, values(argument));
            let wanted = json!({
                "vhost": at.vhost, "name": name, "durable": durable, "auto_delete": auto_delete, "arguments": arguments,
            });
            let queue: QueueReport = post(at.address, "/v1/queues", &wanted).await?.json()?;
            print(at.format, &queue, |queue| format!("queue {} is there, in topic {}\n", queue.name, queue.topic))?;
        }
        Verb::Bind(binding) => bind(at, binding, DestinationKind::Queue).await?,
        Verb::Unbind(binding) => unbind(at, binding, DestinationKind::Queue).await?,
        Verb::Peek(peek) => operate::peek(at, peek).await?,
        Verb::Purge { name } => operate::purge(at, &name).await?,
        Verb::Redrive(redrive) => operate::redrive(at, redrive).await?,
        Verb::Seek(seek) => operate::seek(at, seek).await?,
        Verb::Delete { name } => remove(at, ("queues", &name), false).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a command about exchanges.
pub async fn run_exchange(options: ExchangeOptions) -> anyhow::Result<ExitCode> {
    let at = At { address: &options.admin.admin, format: options.output.output, vhost: &options.vhost };
    match options.verb {
        ExchangeVerb::Ls => ls_exchanges(at).await?,
        ExchangeVerb::Declare { name, kind, transient, auto_delete, internal, argument } => {
            let wanted = json!({
                "vhost": at.vhost, "name": name, "type": kind, "durable": !transient, "auto_delete": auto_delete,
                "internal": internal, "arguments": values(argument),
            });
            let exchange: ExchangeReport = post(at.address, "/v1/exchanges", &wanted).await?.json()?;
            print(at.format, &exchange, |exchange| format!("exchange {} is there\n", exchange.name))?;
        }
        ExchangeVerb::Bind(binding) => bind(at, binding, DestinationKind::Exchange).await?,
        ExchangeVerb::Unbind(binding) => unbind(at, binding, DestinationKind::Exchange).await?,
        ExchangeVerb::Delete { name, if_unused } => {
            remove(at, ("exchanges", &name), if_unused).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn remove(at: At<'_>, (kind, name): (&str, &str), if_unused: bool) -> anyhow::Result<()> {
    let how = json!({ "vhost": at.vhost, "if_unused": if_unused });
    delete(at.address, &format!("/v1/{kind}/{}", segment(name)), &how).await?.json::<Value>()?;
    print(at.format, &json!({ "name": name, "result": "deleted" }), |_| format!("deleted {name}\n"))
}

fn wanted(vhost: &str, binding: Binding, to: DestinationKind) -> Value {
    let Binding { source, destination, key, argument } = binding;
    json!({
        "vhost": vhost, "source": source, "destination": destination, "destination_type": to, "key": key,
        "arguments": values(argument),
    })
}

async fn bind(at: At<'_>, binding: Binding, to: DestinationKind) -> anyhow::Result<()> {
    let wanted = wanted(at.vhost, binding, to);
    post(at.address, "/v1/bindings", &wanted).await?.json::<Value>()?;
    print(at.format, &wanted, |_| "bound\n".to_owned())
}

async fn unbind(at: At<'_>, binding: Binding, to: DestinationKind) -> anyhow::Result<()> {
    let wanted = wanted(at.vhost, binding, to);
    delete(at.address, "/v1/bindings", &wanted).await?.json::<Value>()?;
    print(at.format, &wanted, |_| "unbound\n".to_owned())
}

fn leader(queue: &QueueReport) -> String {
    queue.leader.map_or_else(|| "-".to_owned(), |node| node.to_string())
}

fn features(durable: bool, marks: &[(&str, bool)]) -> String {
    let kept = [("durable", durable)];
    let set = kept.iter().chain(marks).filter(|(_, set)| *set).map(|(name, _)| *name);
    set.collect::<Vec<_>>().join(",")
}

pub(super) fn shown(arguments: &Values) -> String {
    arguments.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

fn policy(queue: &QueueReport) -> String {
    let name = queue.policy.as_deref();
    name.map_or_else(|| "-".to_owned(), |name| format!("{name}: {}", shown(&queue.policy_definition)))
}

fn marks(queue: &QueueReport) -> String {
    features(queue.durable, &[("exclusive", queue.exclusive), ("auto-delete", queue.auto_delete)])
}

async fn ls(at: At<'_>) -> anyhow::Result<()> {
    let mut queues: Vec<QueueReport> = get(at.address, "/v1/queues").await?.json()?;
    queues.retain(|queue| queue.vhost == at.vhost);
    print(at.format, &queues, |queues| {
        let row = |queue: &QueueReport| {
            let number = |of: fn(&QueueStanding) -> u64| known(queue, |standing| of(standing).to_string());
            [
                queue.name.clone(),
                queue.topic.clone(),
                leader(queue),
                number(|standing| standing.counts.ready),
                number(|standing| standing.counts.unacked),
                number(|standing| standing.counts.delayed),
                number(|standing| standing.dead.all()),
                number(|standing| standing.counts.consumers),
                known(queue, oldest),
                marks(queue),
                shown(&queue.arguments),
            ]
        };
        let head = [
            "QUEUE",
            "TOPIC",
            "LEADER",
            "READY",
            "UNACKED",
            "DELAYED",
            "DEAD",
            "CONSUMERS",
            "OLDEST",
            "KIND",
            "ARGUMENTS",
        ];
        table(head, &queues.iter().map(row).collect::<Vec<_>>())
    })
}

/// Something of what the leader knows, if it answered.
fn known(queue: &QueueReport, of: impl FnOnce(&QueueStanding) -> String) -> String {
    queue.standing.as_ref().map_or_else(|| "?".to_owned(), of)
}

/// For how long the oldest delivery is out.
fn oldest(standing: &QueueStanding) -> String {
    let age = |ms| humantime::format_duration(Duration::from_secs(ms / 1_000)).to_string();
    standing.counts.oldest_unacked_ms.map_or_else(|| "-".to_owned(), age)
}

fn messages(standing: &QueueStanding) -> String {
    let QueueCounts { ready, unacked, delayed, .. } = standing.counts;
    format!("{ready} ready, {unacked} unacked, {delayed} delayed")
}

fn deaths(standing: &QueueStanding) -> String {
    let each = standing.dead.by_reason().map(|(reason, count)| format!("{count} {reason}")).join(", ");
    format!("{each}; {} on their way to dead letters", standing.counts.dead_pending)
}

fn traffic(standing: &QueueStanding) -> String {
    let QueueTraffic { published, publish_rate, delivered, deliver_rate, redelivered } = standing.traffic;
    format!(
        "{published} published ({publish_rate:.1}/s), {delivered} delivered ({deliver_rate:.1}/s), {redelivered} of them again"
    )
}

async fn describe(at: At<'_>, name: &str) -> anyhow::Result<()> {
    let queues: Vec<QueueReport> = get(at.address, "/v1/queues").await?.json()?;
    let found = queues.into_iter().find(|queue| queue.vhost == at.vhost && queue.name == name);
    let queue = found.ok_or_else(|| anyhow::anyhow!("there is no queue {name} in virtual host {}", at.vhost))?;
    let mut bindings: Vec<BindingReport> = get(at.address, "/v1/bindings").await?.json()?;
    let is_its = |kind, vhost: &str, to: &str| kind == DestinationKind::Queue && vhost == at.vhost && to == name;
    bindings.retain(|binding| is_its(binding.destination_type, &binding.vhost, &binding.destination));
    print(at.format, &json!({ "queue": queue, "bindings": bindings }), |_| {
        let head = pairs(&[
            ("queue", queue.name.clone()),
            ("topic", queue.topic.clone()),
            ("group", queue.group.to_string()),
            ("leader", leader(&queue)),
            ("messages", known(&queue, messages)),
            ("oldest unacked", known(&queue, oldest)),
            ("dead", known(&queue, deaths)),
            ("traffic", known(&queue, traffic)),
            ("consumers", known(&queue, |standing| standing.counts.consumers.to_string())),
            ("kind", marks(&queue)),
            ("arguments", shown(&queue.arguments)),
            ("policy", policy(&queue)),
        ]);
        let row = |binding: &BindingReport| [binding.source.clone(), binding.key.clone(), shown(&binding.arguments)];
        let rows: Vec<_> = bindings.iter().map(row).collect();
        format!("{head}\n{}", table(["EXCHANGE", "KEY", "ARGUMENTS"], &rows))
    })
}

async fn ls_exchanges(at: At<'_>) -> anyhow::Result<()> {
    let mut exchanges: Vec<ExchangeReport> = get(at.address, "/v1/exchanges").await?.json()?;
    exchanges.retain(|exchange| exchange.vhost == at.vhost);
    print(at.format, &exchanges, |exchanges| {
        let row = |exchange: &ExchangeReport| {
            let marks = [("auto-delete", exchange.auto_delete), ("internal", exchange.internal)];
            let (kind, bindings) = (exchange.kind.clone(), exchange.bindings.to_string());
            [exchange.name.clone(), kind, features(exchange.durable, &marks), bindings, shown(&exchange.arguments)]
        };
        let rows: Vec<_> = exchanges.iter().map(row).collect();
        table(["EXCHANGE", "TYPE", "KIND", "BINDINGS", "ARGUMENTS"], &rows)
    })
}
