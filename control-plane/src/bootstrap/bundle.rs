//! The bundle itself: files and secrets, as JSON.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::seal::OpenError;
use crate::files;
use crate::pki::{Ca, Pki, SERVICE_KEY};
use crate::token::Secrets;

/// The version that is written.
const VERSION: u32 = 1;

/// What servers share.
#[derive(Clone, Serialize, Deserialize)]
pub struct Bundle {
    version: u32,
    /// The secrets at the time it was sealed.
    pub secrets: Secrets,
    /// Files below `server/tls`, base64.
    files: BTreeMap<String, String>,
}

/// The files that servers share, below `server/tls`. No others are written,
/// whatever a bundle holds.
fn shared_files() -> impl Iterator<Item = String> {
    let pairs = Ca::ALL.iter().flat_map(|ca| [format!("{}.crt", ca.path()), format!("{}.key", ca.path())]);
    pairs.chain([SERVICE_KEY.to_owned()])
}

impl Bundle {
    /// What this server has.
    ///
    /// # Errors
    /// A sentence: a file is missing or cannot be read.
    pub fn of(pki: &Pki, secrets: &Secrets) -> Result<Bundle, String> {
        let mut shared = BTreeMap::new();
        for name in shared_files() {
            let path = pki.dir().join(&name);
            let bytes = files::read(&path)?.ok_or_else(|| format!("{} is missing", path.display()))?;
            shared.insert(name, STANDARD.encode(bytes));
        }
        Ok(Bundle { version: VERSION, secrets: secrets.clone(), files: shared })
    }

    /// As text; holds every secret.
    ///
    /// # Errors
    /// A sentence.
    pub fn text(&self) -> Result<Vec<u8>, String> {
        serde_json::to_vec(self).map_err(|e| e.to_string())
    }

    /// Reads what [`Bundle::text`] wrote.
    ///
    /// # Errors
    /// It is of another version, or damaged.
    pub fn read(text: &[u8]) -> Result<Bundle, OpenError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let damaged = |_| OpenError::Damaged("the bundle is not what it should be");
        let Version { version } = serde_json::from_slice(text).map_err(damaged)?;
        if version != VERSION {
            return Err(OpenError::Version(version.to_string()));
        }
        let bundle: Bundle = serde_json::from_slice(text).map_err(damaged)?;
        match shared_files().all(|name| bundle.file(&name).is_some()) {
            true => Ok(bundle),
            false => Err(OpenError::Damaged("a file is missing in the bundle")),
        }
    }

    fn file(&self, name: &str) -> Option<Vec<u8>> {
        STANDARD.decode(self.files.get(name)?).ok()
    }

    /// Writes the files that are not the same on the disk; moves what was there into
    /// a folder beside. Answers which were there and different.
    ///
    /// # Errors
    /// A sentence with the path.
    pub fn write(&self, tls: &Path) -> Result<Vec<String>, String> {
        let mut replaced = Vec::new();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let aside = tls.join(format!("replaced-{now}"));
        for name in shared_files() {
            let path = tls.join(&name);
            let wanted = self.file(&name).ok_or("a file is missing in the bundle")?;
            let there = files::read(&path)?;
            if there.as_ref() == Some(&wanted) {
                continue;
            }
            if let Some(bytes) = there {
                files::write(&aside.join(&name), &bytes)?;
                replaced.push(name.clone());
            }
            files::write(&path, &wanted)?;
        }
        Ok(replaced)
    }
}
