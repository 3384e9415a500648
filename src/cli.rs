//! The command line: words in, a [`Command`] out.
//!
//! Deliberately absent: doing anything. What a command does is wired in `app.rs`.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::config::Launch;

/// How the process that hands over calls the one that takes over.
pub const TAKE_OVER: &str = "take-over";

/// What somebody wants flumen to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run.
    Serve {
        /// The file named with `-c`.
        config: Option<PathBuf>,
    },
    /// Validate and describe a configuration.
    Check {
        /// The file named with `-c`.
        config: Option<PathBuf>,
    },
    /// Run one mount without a file.
    Launch(Launch),
    /// Look whether this machine is fit for a configuration.
    Doctor {
        /// The file named with `-c`.
        config: Option<PathBuf>,
    },
    /// Print what a shell needs to complete our words.
    Completions {
        /// Which one.
        shell: Shell,
    },
    /// Print the manual page.
    Manual,
    /// Turn an Icecast configuration into one for flumen.
    ImportIcecast {
        /// Icecast's file.
        file: PathBuf,
    },
    /// Print how a running server fares.
    Status(Server),
    /// Let a running server read its configuration anew.
    Reload(Server),
    /// Sign an address for a listener.
    Sign(Sign),
    /// Let a running server let nobody in any more.
    Drain(Server),
    /// Let the binary that lies on the disk take over from a running server.
    Upgrade(Server),
    /// Run, and begin with what the process at the standard input hands over. For that process only.
    TakeOver(Box<Self>),
}

/// What is to be signed.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Sign {
    /// The file with the secret
    #[arg(long, value_name = "FILE")]
    pub secret: PathBuf,
    /// Path of the mount
    #[arg(long, value_name = "PATH")]
    pub mount: String,
    /// For how long the address is good; whoever still listens then has to go
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    pub lasts: String,
    /// The one address from which it is good [default: any]
    #[arg(long, value_name = "ADDRESS", default_value = "", hide_default_value = true)]
    pub address: String,
    /// Who will be listening, for the log and the lists [default: nobody by name]
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub user: String,
    /// Where the server is, to print a whole address [default: only the query is printed]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
}

/// A running server, and as whom it is asked.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Server {
    /// Where the server is
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8000")]
    pub url: String,
    /// The PEM file with the certificates that are believed over https [default: those that this machine believes]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The operator's name, with --password-file
    #[arg(long, value_name = "NAME", default_value = "admin", requires = "password_file")]
    pub user: String,
    /// The file with the operator's password, for a server that does not take us for an operator without [default: none is shown]
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

/// What came instead of a command: a usage error, or the help somebody asked for. Prints as what to show.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(clap::Error);

impl Usage {
    /// Exit code of bad usage (`EX_USAGE`).
    pub const BAD: u8 = 64;

    /// The exit code: 0 when help or version was asked for.
    pub fn exit_code(&self) -> u8 {
        if self.0.use_stderr() { Self::BAD } else { 0 }
    }

    /// Shows it where it belongs, in colour on a terminal: help on stdout, errors on stderr.
    pub fn print(&self) {
        // Who closed the stream does not want to know.
        let _ = self.0.print();
    }
}

/// Reads the arguments, the program's own name first.
///
/// # Errors
/// When they are not a command, or ask for help or version.
pub fn parse(arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Command, Usage> {
    let cli = Cli::try_parse_from(arguments).map_err(Usage)?;
    Ok(match cli.command {
        None => Command::Serve { config: cli.file.config },
        Some(Word::Serve(file)) => Command::Serve { config: file.config },
        Some(Word::Check(file)) => Command::Check { config: file.config },
        Some(Word::Doctor(file)) => Command::Doctor { config: file.config },
        Some(Word::Completions { shell }) => Command::Completions { shell },
        Some(Word::Manual) => Command::Manual,
        Some(Word::Launch(LaunchArgs { pipeline, mount, listen, set })) => Command::Launch(Launch { pipeline, mount, listen, set }),
        Some(Word::ImportIcecast { file }) => Command::ImportIcecast { file },
        Some(Word::Status(server)) => Command::Status(server),
        Some(Word::Reload(server)) => Command::Reload(server),
        Some(Word::Sign(sign)) => Command::Sign(sign),
        Some(Word::Drain(server)) => Command::Drain(server),
        Some(Word::Upgrade(server)) => Command::Upgrade(server),
        Some(Word::TakeOver { arguments }) => {
            let program = std::iter::once(OsString::from("flumen"));
            Command::TakeOver(Box::new(parse(program.chain(arguments))?))
        }
    })
}

/// What a shell needs to complete our words.
pub fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "flumen", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The manual page, commands included, in roff.
///
/// # Errors
/// None: a vector takes everything.
pub fn manual() -> io::Result<String> {
    let mut page = Vec::new();
    let command = Cli::command();
    let man = clap_mangen::Man::new(command.clone()).section("8").manual("flumen");
    man.render(&mut page)?;
    for word in command.get_subcommands().filter(|word| !word.is_hide_set()) {
        let title = format!("flumen-{}", word.get_name());
        writeln!(page, ".SH \"FLUMEN {}\"", word.get_name().to_uppercase())?;
        let man = clap_mangen::Man::new(word.clone().bin_name(format!("flumen {}", word.get_name()))).title(title);
        man.render_description_section(&mut page)?;
        man.render_synopsis_section(&mut page)?;
        man.render_options_section(&mut page)?;
    }
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// A live streaming server: one encoder in, ten thousand listeners out.
#[derive(Debug, Parser)]
#[command(name = "flumen", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Word>,
    #[command(flatten)]
    file: File,
}

#[derive(Debug, Args)]
struct File {
    /// Configuration file [default: $FLUMEN_CONFIG, ./flumen.toml, /etc/flumen/flumen.toml, else a demo]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Word {
    /// Run the server (the default)
    Serve(File),
    /// Validate the configuration; print the effective settings and the worst-case memory
    Check(File),
    /// Look whether this machine is fit for the configuration: limits, kernel, plugins, certificates, addresses, clock
    Doctor(File),
    /// Run one mount from the command line, without a file
    Launch(LaunchArgs),
    /// Print a flumen.toml made from an Icecast configuration, and on stderr what could not be carried over
    ImportIcecast {
        /// Icecast's configuration, often /etc/icecast2/icecast.xml
        #[arg(value_name = "ICECAST.XML")]
        file: PathBuf,
    },
    /// Print mounts, listeners, lag and health of a running server
    Status(Server),
    /// Let a running server read its configuration anew; listeners stay
    Reload(Server),
    /// Print an address that is signed with a secret of listen_auth = { signed = … }
    Sign(Sign),
    /// Let a running server let nobody in any more; everybody is sent what is queued, and leaves
    Drain(Server),
    /// Let the binary on the disk take over from a running server; listeners stay
    Upgrade(Server),
    /// What a server starts its successor with
    #[command(hide = true)]
    TakeOver {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Print completions for a shell
    #[command(hide = true)]
    Completions {
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
    /// Print the manual page
    #[command(hide = true)]
    Manual,
}

#[derive(Debug, Args)]
struct LaunchArgs {
    /// GStreamer launch syntax, without a sink
    #[arg(value_name = "PIPELINE")]
    pipeline: String,
    /// Path of the mount
    #[arg(long, value_name = "PATH", default_value = "/live")]
    mount: String,
    /// Where to listen; may be given several times [default: 0.0.0.0:8000]
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
    /// A key of the mount, or with its section a key of another: --set burst=2s --set server.max_listeners=5
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, Usage> {
        parse(std::iter::once("flumen").chain(line.split(' ').filter(|word| !word.is_empty())))
    }

    #[test]
    fn every_command_of_the_interface_is_understood() {
        let file = || Some(PathBuf::from("a.toml"));
        let at = |url: &str| Server { url: url.to_owned(), ca: None, user: "admin".to_owned(), password_file: None };
        let here = || at("http://127.0.0.1:8000");
        let launch = |mount: &str, listen: &[&str], set: &[&str]| {
            let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
            Command::Launch(Launch { pipeline: "fakesrc".to_owned(), mount: mount.to_owned(), listen: owned(listen), set: owned(set) })
        };
        for (line, want) in [
            ("", Command::Serve { config: None }),
            ("-c a.toml", Command::Serve { config: file() }),
            ("serve -c a.toml", Command::Serve { config: file() }),
            ("serve --config a.toml", Command::Serve { config: file() }),
            ("check", Command::Check { config: None }),
            ("check -c a.toml", Command::Check { config: file() }),
            ("launch fakesrc", launch("/live", &[], &[])),
            ("launch fakesrc --mount /a --listen [::]:80 --listen unix:/b", launch("/a", &["[::]:80", "unix:/b"], &[])),
            ("launch --set burst=2s fakesrc --set a.b=c=d", launch("/live", &[], &["burst=2s", "a.b=c=d"])),
            ("import-icecast a.xml", Command::ImportIcecast { file: "a.xml".into() }),
            ("status", Command::Status(here())),
            ("status --url http://a:1/", Command::Status(at("http://a:1/"))),
            ("reload", Command::Reload(here())),
            (
                "reload --url https://a:1 --ca c.pem --user anna --password-file p",
                Command::Reload(Server {
                    ca: Some("c.pem".into()),
                    user: "anna".to_owned(),
                    password_file: Some("p".into()),
                    ..at("https://a:1")
                }),
            ),
            ("doctor", Command::Doctor { config: None }),
            ("doctor -c a.toml", Command::Doctor { config: file() }),
            ("completions bash", Command::Completions { shell: Shell::Bash }),
            ("manual", Command::Manual),
            (
                "sign --secret s --mount /a --lasts 5m --address 192.0.2.7 --user anna --url http://a:1",
                Command::Sign(Sign {
                    secret: "s".into(),
                    mount: "/a".into(),
                    lasts: "5m".into(),
                    address: "192.0.2.7".into(),
                    user: "anna".into(),
                    url: Some("http://a:1".into()),
                }),
            ),
            ("drain --url http://a:1", Command::Drain(at("http://a:1"))),
            ("upgrade --password-file p", Command::Upgrade(Server { password_file: Some("p".into()), ..here() })),
            ("take-over serve -c a.toml", Command::TakeOver(Box::new(Command::Serve { config: file() }))),
            ("take-over launch fakesrc --set a.b=c", Command::TakeOver(Box::new(launch("/live", &[], &["a.b=c"])))),
        ] {
            assert_eq!(parsed(line).expect(line), want, "{line}");
        }
    }

    #[test]
    fn bad_usage_is_64_and_help_is_0() {
        for line in [
            "play",
            "serve extra",
            "--loud",
            "check -c",
            "launch",
            "launch a b",
            "status --url",
            "launch a --set",
            "sign --mount /a",
            "drain --user a",
        ] {
            assert_eq!(parsed(line).expect_err(line).exit_code(), 64, "{line}");
        }
        for line in ["--help", "-h", "help", "--version", "-V", "check --help", "help launch"] {
            assert_eq!(parsed(line).expect_err(line).exit_code(), 0, "{line}");
        }
    }

    #[test]
    fn completions_and_the_manual_know_every_command() {
        let words: Vec<_> =
            Cli::command().get_subcommands().filter(|word| !word.is_hide_set()).map(|word| word.get_name().to_owned()).collect();
        assert!(words.len() >= 8, "{words:?}");
        let page = manual().expect("a page");
        assert!(page.contains(".TH flumen 8") || page.contains(".TH \"flumen\" \"8\""), "{page}");
        for word in &words {
            assert!([Shell::Bash, Shell::Zsh, Shell::Fish].into_iter().all(|shell| completions(shell).contains(word.as_str())), "{word}");
            assert!(page.contains(&word.to_uppercase()), "{word}");
        }
    }
}
