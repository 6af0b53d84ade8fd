//! Tokens that are given out for a while, as Kubernetes' bootstrap tokens. They
//! stand in the datastore until the API server keeps them as Secrets.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skiff_store::Error;
use skiff_token::Bootstrap;

use super::random;
use super::secrets::Denied;
use crate::records::{Change, Records};

/// Where they stand.
const PREFIX: &str = "/skiff/token/bootstrap/";
/// How long one lasts unless told otherwise.
pub const DEFAULT_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// The usages there are; each token has some of them.
pub const USAGES: [&str; 2] = ["authentication", "signing"];
/// What begins the names of groups for such tokens.
const GROUP_PREFIX: &str = "system:bootstrappers:";
/// The group of those that let a node join.
pub const DEFAULT_GROUP: &str = "system:bootstrappers:skiff:default-node-token";
/// Longest description, in bytes.
const MAX_DESCRIPTION: usize = 1024;

/// A token that is given out for a while.
#[derive(Clone, Serialize, Deserialize)]
pub struct BootstrapToken {
    /// The public part.
    pub id: String,
    /// The secret part. Empty where tokens are listed.
    #[serde(default)]
    pub secret: String,
    /// When it ends, in seconds since 1970; never, if not given.
    pub expires: Option<u64>,
    /// What it may be used for.
    pub usages: Vec<String>,
    /// The groups of whoever shows it.
    pub groups: Vec<String>,
    /// What it is for, in the words of who made it.
    pub description: String,
}

impl std::fmt::Debug for BootstrapToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BootstrapToken").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What a new one shall be.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Wanted {
    /// The token itself; made if not given.
    pub token: Option<String>,
    /// Seconds it lasts; 0 for ever.
    pub ttl_seconds: u64,
    /// What it may be used for; everything if empty.
    pub usages: Vec<String>,
    /// Groups of whoever shows it; the default one if empty.
    pub groups: Vec<String>,
    /// What it is for.
    pub description: String,
}

impl BootstrapToken {
    /// One as it is wanted.
    ///
    /// # Errors
    /// A sentence: the token, a usage or a group has the wrong form.
    pub fn new(wanted: Wanted, now: SystemTime) -> Result<BootstrapToken, String> {
        let text = match wanted.token {
            Some(text) => text,
            None => random::bootstrap_token()?,
        };
        let parsed = Bootstrap::parse(&text).ok_or(
            "a bootstrap token has the form [a-z0-9]{6}.[a-z0-9]{16}; leave it out to have one made",
        )?;
        if let Some(wrong) = wanted.usages.iter().find(|usage| !USAGES.contains(&usage.as_str())) {
            return Err(format!("{wrong:?} is no usage of a token: these are {}", USAGES.join(" and ")));
        }
        let is_group = |group: &String| group.strip_prefix(GROUP_PREFIX).is_some_and(|rest| !rest.is_empty());
        if let Some(wrong) = wanted.groups.iter().find(|group| !is_group(group)) {
            return Err(format!("the group {wrong:?} must begin with {GROUP_PREFIX}"));
        }
        if wanted.description.len() > MAX_DESCRIPTION {
            return Err(format!("the description is longer than {MAX_DESCRIPTION} bytes"));
        }
        let or = |given: Vec<String>, default: &[&str]| match given.is_empty() {
            true => default.iter().map(|text| (*text).to_owned()).collect(),
            false => given,
        };
        Ok(BootstrapToken {
            id: parsed.id,
            secret: parsed.secret,
            expires: Some(wanted.ttl_seconds)
                .filter(|ttl| *ttl > 0)
                .map(|ttl| seconds(now).saturating_add(ttl)),
            usages: or(wanted.usages, &USAGES),
            groups: or(wanted.groups, &[DEFAULT_GROUP]),
            description: wanted.description,
        })
    }

    fn has_ended(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|end| end <= seconds(now))
    }

    fn read(bytes: &[u8]) -> Result<BootstrapToken, String> {
        serde_json::from_slice(bytes).map_err(|e| format!("a bootstrap token is damaged: {e}"))
    }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Writes a new one down; answers whether its id was free.
///
/// # Errors
/// The store's.
pub async fn create(records: &Records, token: &BootstrapToken) -> Result<bool, Error> {
    let text = serde_json::to_vec(token).map_err(|e| Error::Other(e.to_string()))?;
    records.change(&[Change::Create(format!("{PREFIX}{}", token.id), Bytes::from(text))]).await
}

/// All that have not ended, without their secrets.
///
/// # Errors
/// A sentence.
pub async fn list(records: &Records) -> Result<Vec<BootstrapToken>, String> {
    let found = records.list(PREFIX).await.map_err(|e| e.to_string())?;
    let now = SystemTime::now();
    let mut tokens = Vec::new();
    for (_, record) in found {
        let token = BootstrapToken::read(&record.value)?;
        if !token.has_ended(now) {
            tokens.push(BootstrapToken { secret: String::new(), ..token });
        }
    }
    Ok(tokens)
}

/// Deletes one, by its id; answers whether it was there.
///
/// # Errors
/// The store's.
pub async fn delete(records: &Records, id: &str) -> Result<bool, Error> {
    records.delete(&format!("{PREFIX}{id}")).await
}

/// Deletes those that have ended.
///
/// # Errors
/// A sentence.
pub async fn sweep(records: &Records, now: SystemTime) -> Result<usize, String> {
    let mut deleted = 0;
    for (id, record) in records.list(PREFIX).await.map_err(|e| e.to_string())? {
        if BootstrapToken::read(&record.value)?.has_ended(now) {
            let change = Change::DeleteAt(format!("{PREFIX}{id}"), record.revision);
            deleted += usize::from(records.change(&[change]).await.map_err(|e| e.to_string())?);
        }
    }
    Ok(deleted)
}

/// Whether one lets somebody in.
pub(super) async fn check(records: &Records, shown: &Bootstrap) -> Result<(), Denied> {
    let found = records.get(&format!("{PREFIX}{}", shown.id)).await;
    let Some(record) = found.map_err(|e| Denied::Unknown(e.to_string()))? else { return Err(Denied::Wrong) };
    let token = BootstrapToken::read(&record.value).map_err(Denied::Unknown)?;
    if !shown.is(&token.secret) || !token.usages.iter().any(|usage| usage == USAGES[0]) {
        return Err(Denied::Wrong);
    }
    if token.has_ended(SystemTime::now()) {
        return Err(Denied::Expired);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::in_memory;

    fn wanted(token: &str, ttl_seconds: u64) -> Wanted {
        Wanted { token: Some(token.to_owned()), ttl_seconds, ..Wanted::default() }
    }

    #[tokio::test]
    async fn one_lets_in_until_it_ends_or_is_deleted() {
        let records = in_memory();
        let text = "abcdef.0123456789abcdef";
        let now = SystemTime::now();
        let token = BootstrapToken::new(wanted(text, 60), now).unwrap();
        assert!(create(&records, &token).await.unwrap() && !create(&records, &token).await.unwrap());
        let shown = Bootstrap::parse(text).unwrap();
        assert_eq!(check(&records, &shown).await, Ok(()));
        let wrong = Bootstrap::parse("abcdef.0123456789abcdee").unwrap();
        assert_eq!(check(&records, &wrong).await, Err(Denied::Wrong));
        let listed = list(&records).await.unwrap();
        assert_eq!((listed.len(), listed[0].secret.as_str()), (1, ""));
        assert_eq!(sweep(&records, now).await, Ok(0));
        assert_eq!(sweep(&records, now + Duration::from_secs(61)).await, Ok(1));
        assert_eq!(check(&records, &shown).await, Err(Denied::Wrong));

        let past = BootstrapToken::new(wanted(text, 1), now - Duration::from_secs(10)).unwrap();
        create(&records, &past).await.unwrap();
        assert_eq!(check(&records, &shown).await, Err(Denied::Expired));
        assert!(list(&records).await.unwrap().is_empty());
        assert!(delete(&records, "abcdef").await.unwrap() && !delete(&records, "abcdef").await.unwrap());

        let signing = Wanted { usages: vec!["signing".into()], ..wanted(text, 0) };
        create(&records, &BootstrapToken::new(signing, now).unwrap()).await.unwrap();
        assert_eq!(check(&records, &shown).await, Err(Denied::Wrong));
    }

    #[test]
    fn what_has_the_wrong_form_is_refused() {
        let now = SystemTime::now();
        assert!(BootstrapToken::new(wanted("short.token", 1), now).is_err());
        let usage = Wanted { usages: vec!["anything".into()], ..Wanted::default() };
        assert!(BootstrapToken::new(usage, now).unwrap_err().contains("authentication"));
        let group = Wanted { groups: vec!["system:masters".into()], ..Wanted::default() };
        assert!(BootstrapToken::new(group, now).unwrap_err().contains("system:bootstrappers:"));
        let made = BootstrapToken::new(Wanted::default(), now).unwrap();
        assert_eq!((made.expires, made.groups), (None, vec![DEFAULT_GROUP.to_owned()]));
    }
}
