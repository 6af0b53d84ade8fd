//! Tokens, over HTTPS: what `skiff token` asks for.

use std::time::SystemTime;

use axum::extract::Path;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use skiff_token::CaBundle;

use super::Refusal;
use super::access::ServerAccess;
use super::body::Json;
use crate::files;
use crate::layout::Layout;
use crate::pki::{Ca, Pki};
use crate::token::{self, BootstrapToken, Secrets, bootstrap, full, full_bootstrap};

/// What the servers' token shall be.
#[derive(Default, Serialize, Deserialize)]
pub struct Rotation {
    /// The new one; made if not given.
    #[serde(default, rename = "newToken")]
    pub new_token: Option<String>,
}

/// Replaces the servers' token; answers its full form.
pub(super) async fn rotate(access: ServerAccess, Json(rotation): Json<Rotation>) -> Result<String, Refusal> {
    let supervisor = &access.supervisor;
    let rotated = crate::bootstrap::rotate(
        &supervisor.records,
        &supervisor.pki,
        &supervisor.secrets,
        rotation.new_token,
    )
    .await;
    let secrets = rotated.map_err(Refusal::conflict)?;
    tracing::info!("the servers' token was replaced");
    write_files(&supervisor.layout, &supervisor.pki, &secrets).map_err(Refusal::internal)?;
    full_token(&supervisor.pki, &secrets).map_err(Refusal::internal)
}

/// Lists bootstrap tokens, without their secrets.
pub(super) async fn list(access: ServerAccess) -> Result<Json<Vec<BootstrapToken>>, Refusal> {
    bootstrap::list(&access.supervisor.records).await.map(Json).map_err(Refusal::unavailable)
}

/// Creates a bootstrap token; answers its full form.
pub(super) async fn create(
    access: ServerAccess,
    Json(wanted): Json<bootstrap::Wanted>,
) -> Result<String, Refusal> {
    let supervisor = &access.supervisor;
    let token = BootstrapToken::new(wanted, SystemTime::now()).map_err(Refusal::bad_request)?;
    let created = bootstrap::create(&supervisor.records, &token).await;
    if !created.map_err(|e| Refusal::of_store(&e))? {
        return Err(Refusal::conflict(format!("a token with the id {} is there already", token.id)));
    }
    let bundle = authorities(&supervisor.pki).map_err(Refusal::internal)?;
    Ok(full_bootstrap(&bundle.hash(), &format!("{}.{}", token.id, token.secret)))
}

/// Deletes a bootstrap token.
pub(super) async fn remove(access: ServerAccess, Path(id): Path<String>) -> Result<StatusCode, Refusal> {
    let deleted = bootstrap::delete(&access.supervisor.records, &id).await;
    match deleted.map_err(|e| Refusal::of_store(&e))? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Refusal::not_found(format!("there is no token with the id {id}"))),
    }
}

fn authorities(pki: &Pki) -> Result<CaBundle, String> {
    CaBundle::from_pem(pki.bundle(Ca::Server)?).map_err(|e| e.to_string())
}

fn full_token(pki: &Pki, secrets: &Secrets) -> Result<String, String> {
    Ok(full(&authorities(pki)?.hash(), token::SERVER_USER, &secrets.server))
}

/// Writes the files that hold the secrets in their full form.
///
/// # Errors
/// A sentence with the path.
pub fn write_files(layout: &Layout, pki: &Pki, secrets: &Secrets) -> Result<(), String> {
    let hash = authorities(pki)?.hash();
    let server = full(&hash, token::SERVER_USER, &secrets.server);
    files::write(&layout.token(), format!("{server}\n").as_bytes())?;
    let agent = full(&hash, token::NODE_USER, secrets.agent());
    files::write(&layout.agent_token(), format!("{agent}\n").as_bytes())?;
    let link = layout.node_token();
    match std::os::unix::fs::symlink("token", &link) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(format!("cannot link {}: {e}", link.display()))
        }
        _ => Ok(()),
    }
}
