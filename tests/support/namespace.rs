//! Mounts of a test's own, where this host allows them: disks that are small, or that cannot be written to.

use std::ffi::OsStr;
use std::process::Command;

/// Whether programs can be given mounts of their own here. Says so when not: what needs them is not tested.
pub fn may_mount(untested: &str) -> bool {
    let tried = Command::new("unshare").args(["-rm", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    let may = tried.is_ok_and(|output| output.status.success());
    if !may {
        eprintln!("not tested here: {untested} (unshare and mount are not allowed)");
    }
    may
}

/// The command, in a mount namespace of its own where this script of the shell has been run before.
pub fn within(script: &str, command: &Command) -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(["-rm", "sh"]);
    with_shell(unshare, script, command)
}

/// The command, in a shell where this script has been run before: with limits, for one.
pub fn after(script: &str, command: &Command) -> Command {
    with_shell(Command::new("sh"), script, command)
}

fn with_shell(mut shell: Command, script: &str, command: &Command) -> Command {
    shell.args(["-euc", &format!("{script}\nexec \"$@\""), "sh"]).arg(command.get_program());
    shell.args(command.get_args()).env_clear();
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell
}

/// Runs a script in the mount namespace of a process.
///
/// # Panics
/// When it fails.
pub fn inside(pid: u32, script: impl AsRef<OsStr>) -> String {
    let mut shell = Command::new("nsenter");
    shell.args(["--preserve-credentials", "--user", "--mount", "--target", &pid.to_string(), "sh", "-euc"]).arg(script);
    let output = shell.output().expect("nsenter runs");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}
