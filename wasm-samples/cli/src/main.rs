//! `cli`: a WASI preview 1 command that shows what a container was given. Each argument
//! is one step, done in order; without any it prints its arguments and environment.
//!
//! | argument | does |
//! |---|---|
//! | `args` | prints all arguments, one per line |
//! | `env` | prints the environment, sorted |
//! | `pwd` | prints the working directory |
//! | `cat:PATH` | prints a file |
//! | `ls:PATH` | prints a directory's names, sorted |
//! | `write:PATH=TEXT` | writes a file |
//! | `append:PATH=TEXT` | appends to a file |
//! | `rm:PATH` | removes a file |
//! | `echo:TEXT` | prints a line |
//! | `err:TEXT` | prints a line on standard error |
//! | `lines:N` | prints N numbered lines |
//! | `sleep:MS` | sleeps |
//! | `stdin` | copies standard input to standard output |
//! | `exit:CODE` | exits at once with that code |
//!
//! A step that fails says why on standard error and ends the program with code 1.

use std::io::{self, Read, Write};
use std::process::exit;
use std::{env, fs, thread, time::Duration};

fn main() {
    let steps: Vec<String> = env::args().skip(1).collect();
    let defaults = ["args".to_owned(), "env".to_owned()];
    let steps = if steps.is_empty() {
        &defaults[..]
    } else {
        &steps
    };
    for step in steps {
        if let Err(error) = run(step) {
            eprintln!("{step}: {error}");
            exit(1);
        }
    }
}

fn run(step: &str) -> io::Result<()> {
    let (verb, rest) = step.split_once(':').unwrap_or((step, ""));
    let (path, text) = rest.split_once('=').unwrap_or((rest, ""));
    match verb {
        "args" => env::args().for_each(|arg| println!("{arg}")),
        "env" => {
            let mut all: Vec<_> = env::vars().collect();
            all.sort();
            all.iter()
                .for_each(|(name, value)| println!("{name}={value}"));
        }
        "pwd" => println!("{}", env::current_dir()?.display()),
        "cat" => io::stdout().write_all(&fs::read(rest)?)?,
        "ls" => list(rest)?,
        "write" => fs::write(path, text)?,
        "append" => fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)?
            .write_all(text.as_bytes())?,
        "rm" => fs::remove_file(rest)?,
        "echo" => println!("{rest}"),
        "err" => eprintln!("{rest}"),
        "lines" => (0..number(rest)?).for_each(|n| println!("line {n}")),
        "sleep" => thread::sleep(Duration::from_millis(number(rest)?)),
        "stdin" => {
            let mut all = Vec::new();
            io::stdin().read_to_end(&mut all)?;
            io::stdout().write_all(&all)?;
        }
        "exit" => exit(number(rest)? as i32),
        _ => return Err(io::Error::other("no such step")),
    }
    io::stdout().flush()
}

fn list(path: &str) -> io::Result<()> {
    let mut names = fs::read_dir(path)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort();
    names.iter().for_each(|name| println!("{name}"));
    Ok(())
}

fn number(text: &str) -> io::Result<u64> {
    text.parse().map_err(io::Error::other)
}
