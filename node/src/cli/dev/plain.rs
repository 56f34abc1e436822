//! `--plain`: one JSON event a line on standard output, commands by line on standard input. Scripts depend on it.
//! The end of standard input stops nothing; `stop`, SIGTERM and SIGINT do.

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::signal::unix::{SignalKind, signal};

use super::fleet::{Event, Fleet, Order};
use crate::cli::output;

/// Runs until stopped.
pub async fn run(fleet: &mut Fleet) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut open = true;
    tokio::select! {
        event = fleet.ready() => say(&event?)?,
        _ = terminate.recv() => order(fleet, "SIGTERM", Ok(Order::Stop))?,
        _ = interrupt.recv() => order(fleet, "SIGINT", Ok(Order::Stop))?,
    }
    loop {
        tokio::select! {
            event = fleet.next() => match event {
                Some(event) => say(&event)?,
                None => return Ok(()),
            },
            line = lines.next_line(), if open => match line {
                Ok(Some(line)) if line.trim().is_empty() => {}
                Ok(Some(line)) => order(fleet, &line, parse(&line))?,
                Ok(None) | Err(_) => open = false,
            },
            _ = terminate.recv() => order(fleet, "SIGTERM", Ok(Order::Stop))?,
            _ = interrupt.recv() => order(fleet, "SIGINT", Ok(Order::Stop))?,
        }
    }
}

fn order(fleet: &mut Fleet, command: &str, order: Result<Order, String>) -> anyhow::Result<()> {
    match order.and_then(|order| fleet.order(order)) {
        Ok(()) => Ok(()),
        Err(reason) => say(&Event::Refused { command: command.trim().to_owned(), reason }),
    }
}

fn parse(line: &str) -> Result<Order, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let id = |text: &str| text.parse().map_err(|_| format!("a node number is expected, not \"{text}\""));
    match words[..] {
        ["kill", node] => id(node).map(Order::Kill),
        ["restart", node] => id(node).map(Order::Restart),
        ["stop"] => Ok(Order::Stop),
        _ => Err("known commands: kill ID, restart ID, stop".to_owned()),
    }
}

fn say(event: &Event) -> anyhow::Result<()> {
    let mut line = serde_json::to_string(event)?;
    line.push('\n');
    Ok(output::write(line.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::dev::Member;

    #[test]
    fn commands_are_understood_or_explained() {
        assert_eq!(parse(" kill 2 "), Ok(Order::Kill(2)));
        assert_eq!(parse("restart 1"), Ok(Order::Restart(1)));
        assert_eq!(parse("stop"), Ok(Order::Stop));
        assert_eq!(parse("kill two"), Err("a node number is expected, not \"two\"".to_owned()));
        assert!(parse("stop 1").is_err());
    }

    #[test]
    fn events_keep_their_form() {
        let member = Member {
            id: 1,
            pid: 7,
            kafka: "127.0.0.1:9092".to_owned(),
            admin: "http://127.0.0.1:9640".to_owned(),
            peer: "127.0.0.1:9740".to_owned(),
            amqp: "127.0.0.1:5672".to_owned(),
        };
        let json = |event: &Event| serde_json::to_string(event).expect("serializes");
        assert_eq!(
            json(&Event::Ready { nodes: vec![member] }),
            r#"{"event":"ready","nodes":[{"id":1,"pid":7,"kafka":"127.0.0.1:9092","admin":"http://127.0.0.1:9640","peer":"127.0.0.1:9740","amqp":"127.0.0.1:5672"}]}"#
        );
        assert_eq!(json(&Event::Killed { id: 2 }), r#"{"event":"killed","id":2}"#);
        assert_eq!(json(&Event::Restarted { id: 2, pid: 9 }), r#"{"event":"restarted","id":2,"pid":9}"#);
        assert_eq!(json(&Event::Stopped { id: 3 }), r#"{"event":"stopped","id":3}"#);
        let exited = Event::Exited { id: 1, code: None, signal: Some(9), log: "node-1.log".into() };
        assert_eq!(json(&exited), r#"{"event":"exited","id":1,"code":null,"signal":9,"log":"node-1.log"}"#);
    }
}
