//! How to reach the store with etcdctl: a file to source.

use skiff_control_plane::files;
use skiff_control_plane::layout::Layout;
use skiff_control_plane::pki::{Ca, Pki};

/// Writes the file, and tells of it.
///
/// # Errors
/// A sentence with the path.
pub(super) fn write(layout: &Layout, pki: &Pki, client_url: &str) -> Result<(), String> {
    let file = |path: &str, ending: &str| quoted(&pki.file(path, ending).display().to_string());
    let text = format!(
        "# The store of this server: source this file, then use etcdctl.\n\
         export ETCDCTL_API=3\n\
         export ETCDCTL_ENDPOINTS={}\n\
         export ETCDCTL_CACERT={}\n\
         export ETCDCTL_CERT={}\n\
         export ETCDCTL_KEY={}\n",
        quoted(client_url),
        file(Ca::EtcdServer.path(), "crt"),
        file("etcd/client", "crt"),
        file("etcd/client", "key"),
    );
    files::write(&layout.etcdctl(), text.as_bytes())?;
    let path = layout.etcdctl().display().to_string();
    tracing::info!(file = path, "source this file to use etcdctl: . {}; etcdctl member list", quoted(&path));
    Ok(())
}

/// A text as a shell reads it back.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:,@%+=[]".contains(c);
    match text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_paths_are_quoted() {
        assert_eq!(quoted("/var/lib/skiff"), "/var/lib/skiff");
        assert_eq!(quoted("/my dir/it's"), "'/my dir/it'\\''s'");
    }
}
