//! The binary `flotilla`: the command line of the library `node`.
#![forbid(unsafe_code)]

/// RocksDB's allocations, too. Figures: docs/performance.md.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    node::cli::main()
}
