//! `kubectl borgherd`: the same program under the name by which kubectl finds its plugins.

fn main() -> std::process::ExitCode {
    borgherd_cli::main()
}
