use std::process::ExitCode;

fn main() -> ExitCode {
    fim::cli::main()
}
