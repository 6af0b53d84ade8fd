//! Certificates for nodes: a node sends a request signed by its own key, and gets
//! a certificate of the name and rights that the server decides on.

use std::net::IpAddr;
use std::time::SystemTime;

use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use skiff_token::wire;

use super::access::{AgentAccess, Who};
use super::{PEM, Refusal, node_password};
use crate::pki::NodeCertificate;

/// The paths and what is certified there.
pub(super) const ROUTES: &[(&str, NodeCertificate)] = &[
    ("/serving-kubelet.crt", NodeCertificate::ServingKubelet),
    ("/client-kubelet.crt", NodeCertificate::ClientKubelet),
    ("/client-kube-proxy.crt", NodeCertificate::ClientKubeProxy),
    ("/client-skiff-controller.crt", NodeCertificate::ClientController),
    ("/client-k3s-controller.crt", NodeCertificate::ClientController),
];

/// K3s's names of the headers.
const K3S_NAME: &str = "k3s-node-name";
const K3S_PASSWORD: &str = "k3s-node-password";
const K3S_IP: &str = "k3s-node-ip";

/// The most addresses of a node.
const MAX_ADDRESSES: usize = 16;

/// Signs what a node asks for at the path of this kind.
pub(super) async fn sign(
    kind: NodeCertificate,
    access: AgentAccess,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let supervisor = access.supervisor.clone();
    let header = |ours: &str, k3s: &str| {
        let found = headers.get(ours).or_else(|| headers.get(k3s));
        found.and_then(|value| value.to_str().ok()).map(str::to_owned).filter(|text| !text.is_empty())
    };
    let node = header(wire::NODE_NAME, K3S_NAME);
    // A name counts where it stands in the certificate.
    let named = matches!(kind, NodeCertificate::ServingKubelet | NodeCertificate::ClientKubelet);
    let node = match (node, &access.who) {
        (Some(node), _) => node,
        (None, Who::Node(node)) => node.clone(),
        (None, _) if named => return Err(Refusal::bad_request("the node's name is missing")),
        (None, _) => String::new(),
    };
    if named {
        check_name(&node)?;
        let known = matches!(&access.who, Who::Node(name) if *name == node);
        if !known {
            let password = header(wire::NODE_PASSWORD, K3S_PASSWORD)
                .ok_or_else(|| Refusal::bad_request("the node's password is missing"))?;
            node_password::ensure(&supervisor.records, &node, password).await?;
        }
    }
    let addresses = addresses(header(wire::NODE_IP, K3S_IP).as_deref().unwrap_or_default())?;
    let signed = tokio::task::spawn_blocking(move || {
        supervisor.pki.sign(kind, &body, &node, &addresses, SystemTime::now())
    });
    let pem = signed.await.map_err(Refusal::internal)?.map_err(Refusal::bad_request)?;
    Ok(([(CONTENT_TYPE, PEM)], pem).into_response())
}

fn addresses(text: &str) -> Result<Vec<IpAddr>, Refusal> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let parsed: Result<Vec<IpAddr>, _> = parts.take(MAX_ADDRESSES + 1).map(str::parse).collect();
    match parsed {
        Ok(addresses) if addresses.len() <= MAX_ADDRESSES => Ok(addresses),
        _ => Err(Refusal::bad_request("the node's addresses are malformed or too many")),
    }
}

/// A node's name is a DNS name in lower case, as Kubernetes has it.
pub(super) fn check_name(name: &str) -> Result<(), Refusal> {
    crate::join::check_node_name(name).map_err(Refusal::bad_request)
}
