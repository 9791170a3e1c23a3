//! Remotes that rclone delivers to: an S3 server, and a directory that is taken for one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::daemon::Builder;
use super::process::Process;
use super::{port, wait};

/// The bucket of [`Remotes::s3`].
pub const BUCKET: &str = "courses";

/// Must not be seen in any log.
pub const SECRET_KEY: &str = "S3RVER-secret-access-key";

/// rclone's configuration with the remotes `s3` and `directory`.
pub struct Remotes {
    folder: tempfile::TempDir,
    s3_port: u16,
}

impl Remotes {
    /// Nothing runs yet; the remote `s3` is what listens on this port.
    pub fn with_s3_on(s3_port: u16) -> Remotes {
        let remotes = Remotes { folder: tempfile::tempdir().expect("temporary directory"), s3_port };
        let directory = remotes.directory();
        std::fs::create_dir_all(&directory).expect("the directory of a remote");
        let config = format!(
            "[s3]\ntype = s3\nprovider = Other\nforce_path_style = true\nendpoint = {}\n\
             access_key_id = S3RVER\nsecret_access_key = {SECRET_KEY}\n\n\
             [directory]\ntype = alias\nremote = {}\n",
            remotes.s3_endpoint(),
            directory.display()
        );
        std::fs::write(remotes.config(), config).expect("rclone's configuration");
        remotes
    }

    /// The same with a port where nobody listens yet.
    pub fn new() -> Remotes {
        Remotes::with_s3_on(port::free())
    }

    /// Starts the S3 server, with an empty bucket, and waits until it answers.
    pub fn start_s3(&self) -> Process {
        let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/remotes/node_modules");
        assert!(packages.is_dir(), "the Node packages are missing: run `make deps`");
        let mut command = Command::new("node");
        command.arg(packages.join("s3rver/bin/s3rver.js")).args(["-a", "127.0.0.1", "-p", &self.s3_port.to_string()]);
        command.args(["--configure-bucket", BUCKET, "-d"]).arg(self.folder.path().join("s3"));
        let server = Process::start("s3rver", command, &self.folder.path().join("s3.log"));
        wait::until_blocking("the S3 server listens", Duration::from_secs(20), || {
            std::net::TcpStream::connect(("127.0.0.1", self.s3_port)).ok()
        });
        server
    }

    /// Where the S3 server listens.
    pub fn s3_endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.s3_port)
    }

    /// Of rclone.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("rclone.conf")
    }

    /// What is in the remote `directory:`.
    pub fn directory(&self) -> PathBuf {
        self.folder.path().join("directory")
    }

    /// Has the daemon deliver to this remote.
    pub fn deliver_to(&self, remote: &str, builder: Builder) -> Builder {
        builder
            .set("delivery.kind", "rclone")
            .set("delivery.rclone_remote", remote)
            .set("delivery.rclone_config", self.config().display().to_string())
            // An S3 server that is away is asked for minutes otherwise.
            .env("RCLONE_LOW_LEVEL_RETRIES", "1")
    }

    /// Everything below a path of a remote, fetched with rclone into a directory.
    ///
    /// # Panics
    /// When rclone fails.
    pub fn fetch(&self, remote: &str) -> tempfile::TempDir {
        let fetched = tempfile::tempdir().expect("temporary directory");
        // In one listing: the other kind of s3rver leaves out folders that hold nothing but folders.
        self.rclone(&["copy", "--fast-list", remote, &fetched.path().display().to_string()]);
        fetched
    }

    /// Puts a small file there.
    pub fn put(&self, path: &str, content: &str) {
        let file = self.folder.path().join("content");
        std::fs::write(&file, content).expect("a file");
        self.rclone(&["copyto", &file.display().to_string(), path]);
    }

    fn rclone(&self, arguments: &[&str]) {
        let mut command = Command::new("rclone");
        // A certificate bundle of the environment is nothing that rclone 1.60 understands.
        command.args(arguments).env("RCLONE_CONFIG", self.config()).env_remove("AWS_CA_BUNDLE");
        let output = command.output();
        let output = output.unwrap_or_else(|error| panic!("cannot start rclone: {error}; run `make deps`"));
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
