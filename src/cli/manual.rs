//! `hauld man` and `hauld completions`: made from the command line's own description and the list of
//! settings, where a package is built.

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::answer::{Answer, Failed};
use super::exit::Exit;
use super::{Cli, help};
use crate::config::{Config, environment_name};
use crate::failure::Failure;

/// Arguments of `hauld man`.
#[derive(Debug, Args)]
pub struct ManArguments {
    /// Where the pages go, one for each command
    #[arg(value_name = "DIRECTORY")]
    pub directory: PathBuf,
}

/// Arguments of `hauld completions`.
#[derive(Debug, Args)]
pub struct CompletionsArguments {
    /// The shell that is to read them
    pub shell: Shell,
}

/// What the page of the program says beside what the command line knows of itself.
const FILES: [(&str, &str); 5] = [
    ("/etc/hauld/hauld.toml", "The configuration, hauld.toml(5)."),
    ("/etc/hauld/environment", "Variables, as systemd reads an EnvironmentFile=; that of the old worker will do."),
    (
        "/etc/hauld/credentials/",
        "Secrets, each in a file with the name of its setting: hook.token, report.secret, redis.url.",
    ),
    ("/var/lib/hauld/staging/", "Where downloads grow."),
    ("/var/lib/hauld/courses/", "Where finished courses go, unless the configuration says otherwise."),
];
const ENVIRONMENT: [(&str, &str); 4] = [
    ("HAULD_SECTION_NAME", "Any setting of hauld.toml(5); goes before the file, --set before it."),
    ("HAULD_CONFIG", "The configuration file."),
    ("NO_COLOR, CLICOLOR_FORCE", "No colours; colours even where no terminal is."),
    ("CREDENTIALS_DIRECTORY", "Set by systemd: secrets that the unit was given with LoadCredential=."),
];

/// Prints the completions of a shell.
pub fn completions(arguments: &CompletionsArguments) -> Answer {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "hauld", &mut script);
    let mut answer = Answer::new(false);
    answer.add_words(String::from_utf8_lossy(&script).trim_end());
    answer
}

/// Writes the pages: section 8 for the commands, section 5 for the configuration.
///
/// # Errors
/// When a file cannot be written.
pub fn pages(arguments: &ManArguments) -> Result<Answer, Failed> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let directory = &arguments.directory;
    let written = std::fs::create_dir_all(directory)
        .and_then(|()| write_pages(&command, directory))
        .and_then(|()| std::fs::write(directory.join("hauld.toml.5"), configuration_page()));
    written.map_err(|error| Failed {
        failure: Failure::disk(format_args!("writing to {}", directory.display()), error),
        exit: Exit::CannotCreate,
    })?;
    Ok(Answer::new(false))
}

fn write_pages(command: &clap::Command, directory: &Path) -> std::io::Result<()> {
    for subcommand in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        write_pages(subcommand, directory)?;
    }
    let man = Man::new(command.clone()).section("8").manual("hauld").source(env!("CARGO_PKG_VERSION"));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    let is_program = command.get_name() == "hauld";
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut roff = Roff::new();
    match command.get_after_long_help() {
        _ if is_program => as_it_is(&mut roff, help::EXAMPLES),
        Some(text) => as_it_is(&mut roff, &text.to_string()),
        None => {}
    }
    if is_program {
        let exits: Vec<_> = Exit::ALL.iter().map(|exit| (exit.status().to_string(), exit.meaning())).collect();
        list(&mut roff, "EXIT STATUS", exits.iter().map(|(status, meaning)| (status.as_str(), *meaning)));
        list(&mut roff, "ENVIRONMENT", ENVIRONMENT);
        list(&mut roff, "FILES", FILES);
        roff.control("SH", ["SEE ALSO"]);
        roff.text([roman("hauld.toml(5), systemd.service(5), journalctl(1)")]);
    }
    roff.to_writer(&mut page)?;
    std::fs::write(directory.join(man.get_filename()), page)
}

/// A text whose lines stay as they are.
fn as_it_is(roff: &mut Roff, text: &str) {
    roff.control("SH", ["EXAMPLES"]).control("nf", []);
    for line in text.lines().filter(|line| !line.starts_with("Example")) {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
}

fn list<'a>(roff: &mut Roff, heading: &str, items: impl IntoIterator<Item = (&'a str, &'a str)>) {
    roff.control("SH", [heading]);
    for (term, text) in items {
        roff.control("TP", []).text([bold(term)]).text([roman(text)]);
    }
}

fn configuration_page() -> String {
    let mut roff = Roff::new();
    roff.control("TH", ["hauld.toml", "5", "", env!("CARGO_PKG_VERSION"), "hauld"]);
    roff.control("SH", ["NAME"]).text([roman("hauld.toml - configuration of hauld(8)")]);
    roff.control("SH", ["DESCRIPTION"]).text([roman(
        "A TOML file. Every setting can also be a variable, or a flag --set section.name=value; a flag goes before \
         a variable, a variable before the file.",
    )]);
    let settings = Config::settings();
    let section_of = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    let mut section = String::new();
    for setting in &settings {
        if section != section_of(&setting.name) {
            section = section_of(&setting.name);
            roff.control("SH", [format!("[{section}]").as_str()]);
        }
        let default = if setting.default.is_empty() { "not set" } else { &setting.default };
        let variable = environment_name(&setting.name);
        roff.control("TP", []).text([bold(&setting.name)]);
        roff.text([roman(format!("{} Default: {default}. Variable: {variable}.", setting.help))]);
    }
    roff.control("SH", ["SEE ALSO"]).text([roman("hauld(8)")]);
    roff.render()
}
