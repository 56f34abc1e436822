//! `flotilla queue peek|purge|redrive|seek`: a look at messages, and changes that tell how the queue stood before and stands after.

use std::fmt::Write;

use clap::Args;
use serde_json::json;

use super::At;
use crate::broker::queues::{MessageReport, PeekState, QueueChange, QueueCounts, Redriven, SeekTo};
use crate::cli::client::Start;
use crate::cli::output::{bytes, print, table, time};
use crate::cli::whence::{Whence, whence};
use crate::cli::{get, post, segment};

#[derive(Debug, Args)]
pub struct Peek {
    /// Its name
    name: String,
    /// The first offset
    #[arg(long, default_value_t = 0)]
    from: i64,
    /// How many
    #[arg(long, short = 'n', default_value_t = 10)]
    limit: usize,
    /// With their bodies
    #[arg(long)]
    body: bool,
}

#[derive(Debug, Args)]
pub struct Redrive {
    /// The queue that they are in
    name: String,
    /// The queue that gets them; else each goes back to the one that it died in
    #[arg(long)]
    to: Option<String>,
    /// How many at most
    #[arg(long, default_value_t = 1_000)]
    limit: u64,
}

#[derive(Debug, Args)]
pub struct Seek {
    /// Its name
    name: String,
    /// earliest, latest, an offset, a time ago such as 2h, or a time such as 2026-01-31T12:00:00Z or @ and ms since 1970
    #[arg(long, value_parser = whence)]
    to: Whence,
}

fn path(name: &str, verb: &str) -> String {
    format!("/v1/queues/{}/{verb}", segment(name))
}

pub async fn peek(at: At<'_>, peek: Peek) -> anyhow::Result<()> {
    let Peek { name, from, limit, body } = peek;
    let (path, vhost) = (path(&name, "messages"), segment(at.vhost));
    let page = format!("{path}?vhost={vhost}&from={from}&limit={limit}&body={body}");
    let messages: Vec<MessageReport> = get(at.address, &page).await?.json()?;
    print(at.format, &messages, |messages| if body { whole(messages) } else { rows(messages) })
}

fn state(message: &MessageReport) -> &'static str {
    match message.state {
        PeekState::Ready => "ready",
        PeekState::Unacked => "unacked",
        PeekState::Delayed => "delayed",
        PeekState::Dead => "dead",
    }
}

fn properties(message: &MessageReport) -> String {
    message.properties.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

fn rows(messages: &[MessageReport]) -> String {
    let row = |message: &MessageReport| {
        [
            message.offset.to_string(),
            state(message).to_owned(),
            message.failures.to_string(),
            time(message.published_ms),
            message.exchange.clone(),
            message.routing_key.clone(),
            bytes(message.body_bytes as u64),
            properties(message),
        ]
    };
    let head = ["OFFSET", "STATE", "FAILURES", "PUBLISHED", "EXCHANGE", "KEY", "BODY", "PROPERTIES"];
    table(head, &messages.iter().map(row).collect::<Vec<_>>())
}

/// One after the other.
fn whole(messages: &[MessageReport]) -> String {
    messages.iter().fold(String::new(), |mut text, message| {
        let encoding = message.body_encoding.as_deref().unwrap_or_default();
        let body = message.body.as_deref().unwrap_or_default();
        let (offset, size) = (message.offset, bytes(message.body_bytes as u64));
        let (state, properties) = (state(message), properties(message));
        let _to_memory = writeln!(text, "--- {offset} {state}, {size}, {encoding}; {properties}\n{body}");
        text
    })
}

fn standings(before: &QueueCounts, after: &QueueCounts) -> String {
    let row = |name: &str, counts: &QueueCounts| {
        let QueueCounts { ready, unacked, delayed, consumers, .. } = *counts;
        [name.to_owned(), ready.to_string(), unacked.to_string(), delayed.to_string(), consumers.to_string()]
    };
    table(["", "READY", "UNACKED", "DELAYED", "CONSUMERS"], &[row("before", before), row("after", after)])
}

async fn change(at: At<'_>, path: &str, how: &serde_json::Value) -> anyhow::Result<()> {
    let change: QueueChange = post(at.address, path, how).await?.json()?;
    print(at.format, &change, |change| standings(&change.before, &change.after))
}

pub async fn purge(at: At<'_>, name: &str) -> anyhow::Result<()> {
    change(at, &path(name, "purge"), &json!({ "vhost": at.vhost })).await
}

pub async fn seek(at: At<'_>, seek: Seek) -> anyhow::Result<()> {
    let to = match seek.to.start()? {
        Start::Earliest => SeekTo::Start,
        Start::Latest => SeekTo::End,
        Start::Offset(offset) => SeekTo::Offset(offset),
        Start::Time(time) => SeekTo::TimeMs(time),
    };
    change(at, &path(&seek.name, "seek"), &json!({ "vhost": at.vhost, "to": to })).await
}

/// Goes on until there is nothing more to move: one request moves what it can in some seconds.
pub async fn redrive(at: At<'_>, redrive: Redrive) -> anyhow::Result<()> {
    let path = path(&redrive.name, "redrive");
    let mut all: Option<Redriven> = None;
    loop {
        let left = redrive.limit - all.as_ref().map_or(0, |all| all.moved);
        let how = json!({ "vhost": at.vhost, "to": redrive.to, "limit": left });
        let one: Redriven = post(at.address, &path, &how).await?.json()?;
        let moved = all.as_ref().map_or(0, |all| all.moved) + one.moved;
        let is_over = one.moved == 0 || !one.stayed.is_empty() || moved >= redrive.limit || one.after.ready == 0;
        let before = all.map_or(one.before, |all| all.before);
        all = Some(Redriven { before, moved, ..one });
        if is_over {
            break;
        }
    }
    print(at.format, &all, |all| {
        let Some(Redriven { before, after, moved, stayed }) = all else { return String::new() };
        let stays = stayed.iter().map(|(why, count)| format!("{count} stay: {why}\n"));
        format!("{moved} moved\n{}{}", stays.collect::<String>(), standings(before, after))
    })
}
