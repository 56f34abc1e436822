//! The protocol as a whole, over all APIs and versions of the table.

mod differential;
mod guard;
mod seeds;

/// Rounds of a seeded loop: `short`, or a hundred times that with FLOTILLA_LONG=1.
fn rounds(short: usize) -> usize {
    if std::env::var_os("FLOTILLA_LONG").is_some() { short * 100 } else { short }
}
