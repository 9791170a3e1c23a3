//! The Debian package on a Debian host: installed, run by hand and by systemd, upgraded, removed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use hauld::failure::FailureKind;

use crate::host::Host;
use crate::support::backend::{Backend, check_finalize_signature};
use crate::support::{Origin, Publish, Published, RedisServer, daemon, media, wait};

const SOURCES: &str = env!("CARGO_MANIFEST_DIR");
const LIMIT: std::time::Duration = std::time::Duration::from_secs(60);

/// The package of the program under test, built once for all tests; `None` where there is no dpkg, so no
/// Debian.
static PACKAGE: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    if Command::new("dpkg-deb").arg("--version").output().is_err() {
        eprintln!("skipped: no Debian, no package");
        return None;
    }
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("package");
    let _ = std::fs::remove_dir_all(&directory);
    let mut make = Command::new("make");
    make.args(["-C", SOURCES, "deb"]).arg(format!("HAULD_BINARY={}", env!("CARGO_BIN_EXE_hauld")));
    run(make.arg(format!("TARGET_DIR={}", directory.display())));
    Some(std::fs::read_dir(directory.join("debian")).unwrap().next().unwrap().unwrap().path())
});

fn run(command: &mut Command) -> String {
    // A program with its symbols is large, and packed only to be unpacked.
    let output = command.env("DPKG_DEB_COMPRESSOR_TYPE", "none").output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The package of a later version, with another sample configuration.
fn build_next(package: &Path, directory: &Path) -> PathBuf {
    let (tree, next) = (directory.join("next"), directory.join("next.deb"));
    run(Command::new("dpkg-deb").arg("-R").arg(package).arg(&tree));
    let change =
        "sed -i 's/^Version: .*/Version: 99.0-1/' DEBIAN/control && echo '# a later sample' >> etc/hauld/hauld.toml";
    run(Command::new("sh").args(["-c", change]).current_dir(&tree));
    run(Command::new("dpkg-deb").args(["--root-owner-group", "-b"]).arg(&tree).arg(&next));
    next
}

#[test]
fn the_package_holds_what_belongs_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let Some(package) = &*PACKAGE else { return };
    let listed = run(Command::new("dpkg-deb").arg("-c").arg(package));
    for (mode, path) in [
        ("-rwxr-xr-x root/root", "./usr/bin/hauld"),
        ("-rw-r--r-- root/root", "./usr/lib/systemd/system/hauld@.service"),
        ("-rw-r--r-- root/root", "./usr/lib/systemd/system/hauld.target"),
        ("-rw-r----- root/root", "./etc/hauld/hauld.toml"),
        ("drwxr-x--- root/root", "./etc/hauld/credentials/"),
        ("-rw-r--r-- root/root", "./usr/share/man/man8/hauld.8.gz"),
        ("-rw-r--r-- root/root", "./usr/share/man/man8/hauld-dead-retry.8.gz"),
        ("-rw-r--r-- root/root", "./usr/share/man/man5/hauld.toml.5.gz"),
        ("-rw-r--r-- root/root", "./usr/share/bash-completion/completions/hauld"),
        ("-rw-r--r-- root/root", "./usr/share/zsh/vendor-completions/_hauld"),
        ("-rw-r--r-- root/root", "./usr/share/fish/vendor_completions.d/hauld.fish"),
        ("-rw-r--r-- root/root", "./usr/share/hauld/monitoring/alerts.yml"),
        ("-rw-r--r-- root/root", "./usr/share/doc/hauld/copyright"),
        ("-rw-r--r-- root/root", "./usr/share/doc/hauld/changelog.Debian.gz"),
        ("-rw-r--r-- root/root", "./usr/share/doc/hauld/third-party-licences.gz"),
    ] {
        let is_there = |line: &str| line.starts_with(mode) && line.ends_with(&format!(" {path}"));
        assert!(listed.lines().any(is_there), "no {mode} {path} in\n{listed}");
    }
    let field = |name: &str| run(Command::new("dpkg-deb").arg("-f").arg(package).arg(name)).trim().to_owned();
    assert_eq!(field("Version"), concat!(env!("CARGO_PKG_VERSION"), "-1"));
    assert!(field("Depends").contains("libc6 (>= ") && !field("Depends").contains("ssl"), "{}", field("Depends"));
    the_manual_is_well_formed(directory.path());
    bash_completes(directory.path());
}

/// As `man` shows it, without a warning of the formatter.
fn the_manual_is_well_formed(directory: &Path) {
    let pages = directory.join("man");
    run(daemon::hauld().arg("man").arg(&pages));
    let mut program = String::new();
    for page in std::fs::read_dir(&pages).unwrap() {
        let page = page.unwrap().path();
        let mut man = Command::new("man");
        man.args(["--warnings", "-E", "UTF-8", "-l", "-Tutf8"]).arg(&page);
        let Ok(output) = man.env("LC_ALL", "C.UTF-8").env("MANWIDTH", "80").output() else {
            return eprintln!("skipped: man is not on this host");
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{}: {said}", page.display());
        if page.ends_with("hauld.8") {
            program = without_overstrikes(&String::from_utf8(output.stdout).unwrap());
        }
    }
    for part in ["EXIT STATUS", "configuration cannot be used", "hauld-requeue(8)", "/etc/hauld/credentials"] {
        assert!(program.contains(part), "no {part:?} in\n{program}");
    }
    assert!(!program.contains("completions"), "the hidden commands are for who builds a package");
}

/// Bold letters are written twice, with a step back between.
fn without_overstrikes(text: &str) -> String {
    let mut plain = String::new();
    for character in text.chars() {
        match character {
            '\u{8}' => drop(plain.pop()),
            _ => plain.push(character),
        }
    }
    plain
}

/// Sources the completions and asks for some, as the shell does on a tab.
fn bash_completes(directory: &Path) {
    let script = directory.join("completions");
    std::fs::write(&script, run(daemon::hauld().args(["completions", "bash"]))).unwrap();
    let complete = |words: &[&str]| {
        let ask = "source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); COMPREPLY=();
            _hauld hauld \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD-1]}\"; printf '%s\\n' \"${COMPREPLY[@]}\"";
        run(Command::new("bash").args(["-c", ask, "bash"]).arg(&script).args(words))
    };
    assert_eq!(complete(&["hauld", "req"]), "requeue\n");
    assert_eq!(complete(&["hauld", "dead", "p"]), "purge\n");
    assert!(complete(&["hauld", "fetch", "--qu"]).contains("--quality"));
    let kinds = complete(&["hauld", "dead", "list", "--kind", ""]);
    assert!(FailureKind::ALL.iter().all(|kind| kinds.lines().any(|line| line == kind.name())), "{kinds}");
}

/// A host with what a daemon needs, outside of it.
struct World {
    host: Host,
    redis: RedisServer,
    backend: Backend,
    published: Published,
    _origin: Origin,
}

const SECRET: &str = "a secret of the package test";

impl World {
    fn start() -> Option<World> {
        let host = Host::start()?;
        let origin = Origin::start();
        let published = Publish::of(media::ts()).encrypted().at(&origin, "/course");
        Some(World { host, redis: RedisServer::start(), backend: Backend::start(), published, _origin: origin })
    }

    fn configure(&self, more: &str) {
        let (redis, backend) = (self.redis.url(), self.backend.base_url());
        let text = format!(
            "[redis]\nurl = \"{redis}\"\n[admin]\nlisten = \"off\"\n[queue]\nblock_seconds = 1\n\
             [network]\nallow = [\"127.0.0.1\"]\n\
             [report]\napi_base_url = \"{backend}\"\n{more}"
        );
        // Keeps owner and mode.
        self.host.shell(&format!("cat > /etc/hauld/hauld.toml <<'END'\n{text}END"));
    }

    /// One real job from the list to the backend.
    async fn deliver(&self, task_id: u64) {
        self.redis.set_task(task_id, "enrolled");
        self.redis.push_job(task_id, &self.published.url);
        self.redis.wait_for_task(task_id, "completed").await;
        let call = self.backend.finalize_calls().pop().unwrap();
        check_finalize_signature(&call, SECRET);
    }

    fn is_active(&self, unit: &str) -> bool {
        self.host.run(&["systemctl", "is-active", unit]).status.success()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn installed_run_upgraded_removed() {
    let directory = tempfile::tempdir().unwrap();
    let Some(package) = &*PACKAGE else { return };
    let Some(world) = World::start() else { return };
    let host = &world.host;
    host.put("/root/hauld.deb", "644", &std::fs::read(package).unwrap());
    host.put("/root/next.deb", "644", &std::fs::read(build_next(package, directory.path())).unwrap());

    host.said(&["dpkg", "-i", "/root/hauld.deb"]);
    let owners = host.shell("stat -c '%n %U:%G %a' /etc/hauld /etc/hauld/* /var/lib/hauld");
    assert_eq!(
        owners,
        "/etc/hauld root:hauld 750\n/etc/hauld/credentials root:hauld 750\n/etc/hauld/hauld.toml root:hauld 640\n\
         /var/lib/hauld hauld:hauld 750"
    );
    assert!(!world.is_active("hauld") && !world.is_active("hauld.target"), "nothing starts unconfigured");
    host.said(&["systemd-analyze", "verify", "hauld.service", "hauld@3.service", "hauld.target"]);

    world.configure("");
    host.put("/etc/hauld/credentials/report.secret", "600", SECRET.as_bytes());
    host.said(&["chown", "hauld", "/etc/hauld/credentials/report.secret"]);
    by_hand(&world).await;
    // From here on root's alone: systemd hands it over.
    host.said(&["chown", "root", "/etc/hauld/credentials/report.secret"]);
    by_systemd(&world).await;
    in_numbers(&world);
    upgraded(&world).await;
    removed(&world);
}

/// As an operator would try it, as its user.
async fn by_hand(world: &World) {
    let host = &world.host;
    let as_hauld = ["setpriv", "--reuid=hauld", "--regid=hauld", "--init-groups", "hauld"];
    let checked = host.said(&[&as_hauld[..], &["check"]].concat());
    assert!(checked.contains("usable") && checked.contains("signed with the secret"), "{checked}");
    let mut daemon = host.start_command(&[&as_hauld[..], &["run"]].concat());
    world.deliver(1).await;
    host.said(&["pkill", "-TERM", "-x", "hauld"]);
    assert!(daemon.wait().unwrap().success());
}

/// The unit, with its whole sandbox: ffmpeg and rclone under its filters, logs in the journal.
async fn by_systemd(world: &World) {
    let host = &world.host;
    host.said(&["systemctl", "start", "hauld"]);
    world.deliver(2).await;
    let delivered = host.shell("find /var/lib/hauld/courses -type f");
    assert!(delivered.lines().any(|file| file.ends_with(".mp4")), "ffmpeg was used: {delivered}");
    let ready =
        "journalctl --no-pager -u hauld -o export | grep -a -B99 -A99 'ready: taking jobs' | grep -a '^PRIORITY='";
    assert!(host.shell(ready).lines().any(|line| line == "PRIORITY=6"));
    assert!(host.journal().lines().any(|line| line.starts_with("{\"timestamp\"")), "{}", host.journal());
    let errors = host.shell("journalctl --no-pager -u hauld -p err -o cat");
    assert!(errors.is_empty() || errors == "-- No entries --", "{errors}");

    host.put("/var/lib/hauld/rclone.conf", "644", b"[directory]\ntype = local\n");
    let remote = "directory:/var/lib/hauld/remote";
    let to_remote =
        format!("[delivery]\nrclone_remote = \"{remote}\"\nrclone_config = \"/var/lib/hauld/rclone.conf\"\n");
    if host.run(&["rclone", "version"]).status.success() {
        world.configure(&to_remote);
        host.said(&["systemctl", "restart", "hauld"]);
        world.deliver(3).await;
        assert!(!host.shell("find /var/lib/hauld/remote -name '*.mp4'").is_empty());
        world.configure("");
    }
    host.said(&["systemctl", "stop", "hauld"]);
    assert_eq!(host.property("hauld", "Result"), "success");

    // 78: restarting would not help.
    world.configure("[worker]\njobs = 0\n");
    assert!(!host.run(&["systemctl", "start", "hauld"]).status.success());
    assert_eq!(
        (host.property("hauld", "ExecMainStatus"), host.property("hauld", "NRestarts")),
        ("78".into(), "0".into())
    );
    world.configure("");
}

/// Instances of the template, as one.
fn in_numbers(world: &World) {
    let host = &world.host;
    host.said(&["systemctl", "enable", "--now", "hauld@1", "hauld@2", "hauld.target"]);
    assert!(world.is_active("hauld@1") && world.is_active("hauld@2"));
    let leases = world.redis.cli(&["--scan", "--pattern", "*"]);
    let journal = host.journal();
    for number in ["-1-", "-2-"] {
        let ready = |line: &str| line.contains("ready: taking jobs") && line.contains(number);
        assert!(journal.lines().any(ready), "{number}: {leases}\n{journal}");
    }
    host.said(&["systemctl", "stop", "hauld.target"]);
    assert!(!world.is_active("hauld@1") && !world.is_active("hauld@2"));
    host.said(&["systemctl", "start", "hauld.target"]);
    assert!(world.is_active("hauld@1") && world.is_active("hauld@2"));
}

/// A configuration that was changed stays, and who ran before runs again.
async fn upgraded(world: &World) {
    let host = &world.host;
    let (configuration, process) = (host.shell("cat /etc/hauld/hauld.toml"), host.property("hauld@1", "MainPID"));
    host.said(&["dpkg", "--force-confold", "-i", "/root/next.deb"]);
    assert_eq!(host.shell("dpkg-query -W -f '${Version}' hauld"), "99.0-1");
    assert_eq!(host.shell("cat /etc/hauld/hauld.toml"), configuration);
    assert_eq!(host.shell("stat -c '%U:%G %a' /etc/hauld/hauld.toml"), "root:hauld 640");
    assert!(host.shell("cat /etc/hauld/hauld.toml.dpkg-dist").contains("# a later sample"));
    // dpkg does not wait for those who run again.
    wait::until_blocking("hauld@1 to run the new version", LIMIT, || {
        (host.property("hauld@1", "MainPID") != process && world.is_active("hauld@1")).then_some(())
    });
    assert!(!world.is_active("hauld"), "what did not run is not started");
    world.deliver(4).await;
}

/// Removing keeps the configuration, purging what was downloaded.
fn removed(world: &World) {
    let host = &world.host;
    host.said(&["dpkg", "-r", "hauld"]);
    wait::until_blocking("the instances to stop", LIMIT, || (!world.is_active("hauld@1")).then_some(()));
    host.shell(
        "test ! -e /usr/bin/hauld && test -e /etc/hauld/hauld.toml && test -e /etc/hauld/credentials/report.secret",
    );
    let said = host.said(&["dpkg", "-P", "hauld"]);
    assert!(said.contains("/var/lib/hauld is left"), "{said}");
    host.shell("test ! -e /etc/hauld && test ! -e /usr/lib/systemd/system/hauld.service");
    assert!(!host.shell("find /var/lib/hauld/courses -name '*.mp4'").is_empty());
    assert_eq!(host.shell("find /etc/systemd -name 'hauld*'"), "");
}
