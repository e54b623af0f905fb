//! `callgate-crdgen [--check]`: writes the files generated from this crate, or says which have drifted.

use std::error::Error;
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, io};

use callgate_crds::generate::{self, COMMAND, GeneratedFile};

/// The repository, from where the crate was built: the command is only ever run by cargo.
const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let check = match arguments.as_slice() {
        [] => false,
        [only] if only == "--check" => true,
        [..] => {
            eprintln!("usage: callgate-crdgen [--check]");
            return ExitCode::from(2);
        }
    };
    match run(Path::new(REPOSITORY), check) {
        Ok(report) => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Err(report) => {
            eprint!("{report}");
            ExitCode::FAILURE
        }
    }
}

/// One line for each file that differs; an error where one may not.
fn run(repository: &Path, check: bool) -> Result<String, String> {
    let files = generate::files().map_err(|error| {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("error: {error}{cause}\n")
    })?;
    let mut report = String::new();
    let mut drifted = false;
    for file in files {
        let path = repository.join(&file.path);
        match fs::read_to_string(&path) {
            Ok(is) if is == file.content => continue,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("error: {}: {error}\n", file.path)),
        }
        if check {
            drifted = true;
            let _ = writeln!(report, "error: {} is not what the code says: run `{COMMAND}` and commit it", file.path);
        } else {
            write_file(&path, &file)?;
            let _ = writeln!(report, "wrote {}", file.path);
        }
    }
    if drifted { Err(report) } else { Ok(report) }
}

fn write_file(path: &Path, file: &GeneratedFile) -> Result<(), String> {
    let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
    folder.and_then(|()| fs::write(path, &file.content)).map_err(|error| format!("error: {}: {error}\n", file.path))
}
