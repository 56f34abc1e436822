//! The binary `flotilla`: the command line of the library `node`.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    node::cli::main()
}
