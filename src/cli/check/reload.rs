//! What a reload would change of the daemon that runs.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use reqwest::Client;

use super::{LIMIT, Report, Verdict};
use crate::config::Config;
use crate::reload::{PREVIEW, Preview};

/// The daemon itself is asked: it knows its flags and variables, and its user may read other files.
pub(super) async fn check(config: &Config, file: Option<&Path>, client: &Client, report: &mut Report) {
    let Some(address) = config.admin.listen.map(reachable) else {
        return report.add("reload", Verdict::Good, "not known what it would change: admin.listen is off");
    };
    let Some(preview) = ask(client, address).await else {
        let text = format!("not known what it would change: no daemon answers at {address}");
        return report.add("reload", Verdict::Good, text);
    };
    let same = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if preview.file.as_deref().map(same) != file.map(same) {
        let shown = |file: Option<&Path>| file.map_or("no file".to_owned(), |file| file.display().to_string());
        let (its, ours) = (shown(preview.file.as_deref()), shown(file));
        report.add("reload", Verdict::Odd, format!("the daemon at {address} reads {its}, not {ours}"));
    }
    for error in &preview.errors {
        report.add("reload", Verdict::Bad, format!("the daemon at {address} would refuse it: {error}"));
    }
    for change in &preview.applied {
        report.add("reload", Verdict::Good, format!("would change: {change} (reload)"));
    }
    for change in &preview.needs_restart {
        report.add("reload", Verdict::Odd, format!("would not change: {change} (restart)"));
    }
    if preview.errors.is_empty() && preview.applied.is_empty() && preview.needs_restart.is_empty() {
        report.add("reload", Verdict::Good, format!("would change nothing: the daemon at {address} uses all of it"));
    }
}

/// A daemon that listens everywhere is on this host too.
fn reachable(address: SocketAddr) -> SocketAddr {
    let here = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        ip => ip,
    };
    SocketAddr::new(here, address.port())
}

/// `None` when nobody answers, or somebody else.
async fn ask(client: &Client, address: SocketAddr) -> Option<Preview> {
    let request = client.get(format!("http://{address}{PREVIEW}")).timeout(LIMIT);
    let answer = request.send().await.ok()?.error_for_status().ok()?;
    answer.json().await.ok()
}
