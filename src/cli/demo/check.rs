//! Is what came what should have come?

use std::ffi::OsString;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::origin::FinalizeCall;
use super::sample::{COURSE, Sample};
use super::world::SECRET;
use super::{expect, failed};
use crate::child;
use crate::failure::Result;

/// Limit of decoding one lecture.
const LIMIT: Duration = Duration::from_secs(120);

/// Compares every delivered file with the truth; returns a line for each.
pub async fn delivered(directory: &Path, sample: &Sample) -> Result<String> {
    let course = directory.join(COURSE);
    let mut text = String::new();
    for lecture in &sample.lectures {
        let (came, truth) = (decoded(&course.join(lecture.path)).await?, decoded(&lecture.truth).await?);
        expect(came == truth, &format!("{}: pictures or sound differ from the original", lecture.path))?;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  equal  {came}  {}", lecture.path);
    }
    for (path, truth) in &sample.files {
        let came = std::fs::read(course.join(path)).map_err(|error| failed(&format!("{path}: {error}")))?;
        expect(came == truth.as_bytes(), &format!("{path} differs from the original"))?;
        let _ = writeln!(text, "  equal  {}  {path}", hex::encode(&Sha256::digest(&came)[..16]));
    }
    Ok(text)
}

/// Hash over all decoded pictures and samples of a file.
async fn decoded(path: &Path) -> Result<String> {
    let mut arguments: Vec<OsString> = vec!["-nostdin".into(), "-v".into(), "error".into(), "-i".into(), path.into()];
    arguments.extend("-map 0:v -map 0:a -f md5 -".split(' ').map(OsString::from));
    let output = child::run(Path::new("ffmpeg"), &arguments, LIMIT, 1 << 20, &CancellationToken::new()).await;
    let output = output.map_err(|error| failed(&error.to_string()))?;
    expect(output.status.success(), &format!("{}: {}", path.display(), output.last_words()))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().trim_start_matches("MD5=").to_owned())
}

/// Checks the finalize call as the backend does.
pub fn finalize(call: &FinalizeCall, task_id: u64) -> Result<()> {
    let body: Value = serde_json::from_str(&call.body).map_err(|_| failed("the finalize body is not JSON"))?;
    expect(body["task_id"] == task_id && body["folder_name"] == COURSE, "the finalize body is wrong")?;
    // cannot fail: HMAC takes keys of any length.
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).map_err(|_| failed("no key"))?;
    mac.update(format!("{task_id}{COURSE}{}", call.timestamp).as_bytes());
    expect(hex::encode(mac.finalize().into_bytes()) == call.signature, "the finalize signature is wrong")
}
