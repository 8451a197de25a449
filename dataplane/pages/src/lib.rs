//! Completion scripts and manual pages of Baton's programs, made of the definitions of their command lines, so that neither can
//! say anything else than the program does. Each program has the two commands of [`Pages`] among its own.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Command, Subcommand};
use clap_complete::Shell;
use clap_mangen::Man;
use thiserror::Error;

/// The section of the manual for what operators run by hand.
pub const COMMANDS: &str = "1";
/// The section for what runs until it is stopped.
pub const DAEMONS: &str = "8";

/// The commands that make them.
#[derive(Clone, Debug, Subcommand)]
pub enum Pages {
    /// Print the completion script of a shell: "source" it, or keep it where the shell looks for such scripts.
    Completions {
        /// Which shell's.
        shell: Shell,
    },
    /// Print the manual page, or write it and those of all commands into a directory.
    Man {
        /// Where to: a file for each page, such as batonctl.1 and batonctl-status.1.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// Why a script or a page was not made.
#[derive(Debug, Error)]
pub enum PagesFault {
    /// The directory cannot be made or written to.
    #[error("{}: {error}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// Nobody takes what is printed.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

impl Pages {
    /// Does it, for a program with these definitions, whose manual is in this section. Prints to `out`.
    ///
    /// # Errors
    /// What is made cannot be written.
    pub fn make(&self, program: Command, section: &str, mut out: impl Write) -> Result<(), PagesFault> {
        match self {
            Self::Completions { shell } => {
                let (mut program, mut script) = (program, Vec::new());
                let name = program.get_name().to_owned();
                clap_complete::generate(*shell, &mut program, name, &mut script);
                out.write_all(&script)?;
            }
            Self::Man { dir: None } => out.write_all(&page(&built(program), section)?)?,
            Self::Man { dir: Some(directory) } => {
                let fault = |error| PagesFault::Directory { path: directory.clone(), error };
                fs::create_dir_all(directory).map_err(fault)?;
                return write(&built(program), section, directory).map_err(fault);
            }
        }
        Ok(out.flush()?)
    }
}

/// The definitions with the names under which the commands are called.
fn built(mut program: Command) -> Command {
    program.build();
    program
}

fn write(command: &Command, section: &str, directory: &Path) -> io::Result<()> {
    // "batonctl-backends-add" of "batonctl backends add".
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    fs::write(directory.join(format!("{name}.{section}")), page(command, section)?)?;
    // The pages are about what there is, not about `help`, which says the same.
    let commands = command.get_subcommands().filter(|inner| inner.get_name() != "help");
    commands.into_iter().try_for_each(|inner| write(inner, section, directory))
}

fn page(command: &Command, section: &str) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    Man::new(command.clone()).manual("Baton").section(section).render(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    /// Looks after things.
    #[derive(Parser)]
    #[command(name = "keeper", version)]
    struct Keeper {
        #[command(subcommand)]
        command: Task,
    }

    #[derive(Subcommand)]
    enum Task {
        /// Keep a thing.
        Keep {
            /// For so long.
            #[arg(long, value_name = "SECONDS")]
            long: u32,
        },
        #[command(flatten)]
        Pages(Pages),
    }

    fn made(words: &[&str], section: &str) -> String {
        let keeper = Keeper::try_parse_from([&["keeper"], words].concat()).expect("good words");
        let Task::Pages(pages) = keeper.command else { panic!("{words:?}") };
        let mut out = Vec::new();
        pages.make(<Keeper as clap::CommandFactory>::command(), section, &mut out).expect("memory");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_page_for_the_program_and_each_command_says_its_section_and_options() {
        let directory = tempfile::tempdir().expect("a directory");
        let pages = directory.path().join("man8");
        assert_eq!(made(&["man", "--dir", pages.to_str().expect("text")], DAEMONS), "");
        let page = |name: &str| fs::read_to_string(pages.join(name)).expect(name);
        assert!(page("keeper.8").contains(".TH keeper 8"), "{}", page("keeper.8"));
        assert_eq!(made(&["man"], DAEMONS), page("keeper.8"));
        assert!(page("keeper-keep.8").contains("\\-\\-long"));
        let mut names: Vec<_> =
            fs::read_dir(&pages).expect("there").map(|entry| entry.expect("readable").file_name()).collect();
        names.sort();
        assert_eq!(names, ["keeper-completions.8", "keeper-keep.8", "keeper-man.8", "keeper.8"]);
    }

    #[test]
    fn every_shell_completes_commands_and_options() {
        for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
            let script = made(&["completions", shell], COMMANDS);
            assert!(script.contains("keep") && script.contains("long"), "{shell}: {script}");
        }
    }

    #[test]
    fn a_directory_that_cannot_be_is_named() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let below = file.path().join("man");
        let pages = Pages::Man { dir: Some(below.clone()) };
        let fault = pages.make(<Keeper as clap::CommandFactory>::command(), COMMANDS, Vec::new());
        let told = fault.expect_err("no directory").to_string();
        assert!(told.starts_with(&format!("{}: ", below.display())), "{told}");
    }
}
