//! Replaces the servers' token.

use super::{Bundle, key_of};
use crate::pki::Pki;
use crate::records::{Change, Records};
use crate::token::{Secrets, SharedSecrets, random, secrets};

/// Shortest token that is taken.
const MIN_LENGTH: usize = 8;
/// Longest one.
const MAX_LENGTH: usize = 1024;

/// Replaces the servers' token by this one, or by one that is made, at once for
/// all servers: they see it in the datastore. Nothing is changed on failure.
///
/// # Errors
/// A sentence: the token cannot be used, or another server was faster.
pub async fn rotate(
    records: &Records,
    pki: &Pki,
    shared: &SharedSecrets,
    wanted: Option<String>,
) -> Result<Secrets, String> {
    shared.refresh().await?;
    let old = shared.current();
    let server = match wanted {
        Some(password) => checked(password)?,
        None => random::password()?,
    };
    if server == old.server {
        return Err("the new token is the old one".to_owned());
    }
    let new = Secrets { server, agent: old.agent.clone() };
    let sealed = Bundle::of(pki, &new)?.seal(&new.server).await?;
    let failed = |e: skiff_store::Error| format!("the datastore did not take the new token: {e}");
    let lost = "another server has just replaced the token; look at it and try again";
    let record = records.get(&key_of(&old.server)).await.map_err(failed)?.ok_or(lost)?;
    let changes = [
        Change::DeleteAt(key_of(&old.server), record.revision),
        Change::Create(key_of(&new.server), sealed),
        Change::Put(secrets::KEY.to_owned(), new.sealed(shared.key())?),
    ];
    if !records.change(&changes).await.map_err(failed)? {
        return Err(lost.to_owned());
    }
    shared.refresh().await?;
    Ok(new)
}

fn checked(password: String) -> Result<String, String> {
    let usable = |c: char| !c.is_whitespace() && !c.is_control();
    match password.len() {
        length if length < MIN_LENGTH => {
            Err(format!("the new token is shorter than {MIN_LENGTH} characters"))
        }
        length if length > MAX_LENGTH => Err(format!("the new token is longer than {MAX_LENGTH} bytes")),
        _ if password.starts_with("K10") || !password.chars().all(usable) => {
            Err("the new token must be a password alone, without spaces and not in the form K10...::"
                .to_owned())
        }
        _ => Ok(password),
    }
}
