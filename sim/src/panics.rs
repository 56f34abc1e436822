//! Panics within nodes: tokio and ractor swallow what a task or an actor panics with, so the panic hook notes it for the world, with
//! the node that ran. Panics of the simulation itself go on to the usual hook.

use std::cell::{Cell, RefCell};

thread_local! {
    static RUNNING: Cell<Option<u32>> = const { Cell::new(None) };
    static NOTED: RefCell<Vec<(u32, String)>> = const { RefCell::new(Vec::new()) };
}

/// Begins to note, in this process.
pub fn watch() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| match RUNNING.get() {
        Some(node) => {
            let words = panic.payload_as_str().unwrap_or("no words").lines().next().unwrap_or_default();
            let place = panic.location().map(|place| format!("{}:{}", place.file(), place.line()));
            let line = format!("{words} ({})", place.unwrap_or_default());
            NOTED.with_borrow_mut(|noted| noted.push((node, line)));
        }
        None => usual(panic),
    }));
}

/// Does what `node` does.
pub fn within<R>(node: u32, work: impl FnOnce() -> R) -> R {
    RUNNING.set(Some(node));
    let result = work();
    RUNNING.set(None);
    result
}

/// The nodes that panicked since the last call, with a line of evidence each.
pub fn take() -> Vec<(u32, String)> {
    NOTED.take()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swallowed_panic_is_noted() {
        watch();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        within(2, || runtime.block_on(async { tokio::spawn(async { panic!("of a task") }).await.unwrap_err() }));
        let noted = take();
        assert_eq!(noted.len(), 1);
        assert!(noted[0].0 == 2 && noted[0].1.starts_with("of a task (sim/src/panics.rs:"), "{noted:?}");
        assert!(take().is_empty());
    }
}
