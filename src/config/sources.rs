//! Where the configuration of a process comes from; it can be read again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Config, ConfigError, Values, environment_file};

/// The file, the environment and the flags that a process was started with.
#[derive(Debug, Clone)]
pub struct Sources {
    file: Option<PathBuf>,
    /// Without what is in the file of variables too: that may say something else later.
    environment: BTreeMap<String, String>,
    flags: BTreeMap<String, String>,
    errors: Vec<ConfigError>,
}

impl Sources {
    /// `flags` maps `section.name` to text. The environment is that of this process.
    pub fn new(file: Option<PathBuf>, flags: BTreeMap<String, String>) -> Sources {
        let mut errors = Vec::new();
        let beside = file.as_deref().and_then(|file| beside(file).ok()).unwrap_or_default();
        let mut environment = BTreeMap::new();
        for (name, value) in std::env::vars_os() {
            // Other programs may keep there what they like.
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                // systemd has read the same file.
                Ok(value) if beside.get(&name) == Some(&value) => {}
                Ok(value) => drop(environment.insert(name, value)),
                Err(_) if name.starts_with("HAULD_") => {
                    let (reason, origin) = ("is not UTF-8".into(), "environment".into());
                    errors.push(ConfigError { name, value: None, reason, origin });
                }
                Err(_) => {}
            }
        }
        Sources { file, environment, flags, errors }
    }

    /// The configuration file.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Reads everything; what the variables of the unit say, unless this process was given others.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(&self) -> Result<(Config, Values), Vec<ConfigError>> {
        let mut errors = self.errors.clone();
        let mut environment = match self.file.as_deref().map(beside).transpose() {
            Ok(beside) => beside.unwrap_or_default(),
            Err(error) => {
                errors.push(error);
                BTreeMap::new()
            }
        };
        environment.extend(self.environment.clone());
        match Config::load_with_values(self.file.as_deref(), environment, self.flags.clone()) {
            Ok(loaded) if errors.is_empty() => Ok(loaded),
            Ok(_) => Err(errors),
            Err(more) => Err(errors.into_iter().chain(more).collect()),
        }
    }
}

/// The variables of the file `environment` beside the configuration file, which is the unit's
/// `EnvironmentFile=`; none when it is not there.
fn beside(file: &Path) -> Result<BTreeMap<String, String>, ConfigError> {
    let path = file.with_file_name("environment");
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(environment_file::parse(&text).into_iter().collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => {
            let (reason, origin) = (format!("cannot be read: {error}"), path.display().to_string());
            Err(ConfigError { name: "environment file".into(), value: None, reason, origin })
        }
    }
}
