//! `borgherd`: see the library of this crate.

fn main() -> std::process::ExitCode {
    borgherd_cli::main()
}
