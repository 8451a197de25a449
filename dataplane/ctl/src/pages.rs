//! Completion scripts and manual pages, made of the command line's definitions.

use std::fs;
use std::io;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::arguments::Arguments;

/// Returns the completion script of a shell.
pub(crate) fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "batonctl", &mut script);
    script
}

/// Returns the manual page of batonctl.
///
/// # Errors
/// None that memory would not have.
pub(crate) fn manual() -> io::Result<Vec<u8>> {
    page(&built())
}

/// Writes the manual pages of batonctl and of each of its commands.
///
/// # Errors
/// The directory cannot be made or written to.
pub(crate) fn write_manuals(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    write(&built(), directory)
}

/// The definitions with the names under which the commands are called.
fn built() -> Command {
    let mut command = Arguments::command();
    command.build();
    command
}

fn write(command: &Command, directory: &Path) -> io::Result<()> {
    // "batonctl-backends-add" of "batonctl backends add".
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    fs::write(directory.join(format!("{name}.1")), page(command)?)?;
    // The pages are about what there is, not about `help`, which says the same.
    let commands = command.get_subcommands().filter(|inner| inner.get_name() != "help");
    commands.into_iter().try_for_each(|inner| write(inner, directory))
}

fn page(command: &Command) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    Man::new(command.clone()).manual("Baton").render(&mut text)?;
    Ok(text)
}
