//! Checks of peer URLs, as etcd's `types.NewURLs`.

use skiff_store::ApiError;

/// Checks the peer URLs of a new member.
pub(crate) fn peer_urls(urls: &[String]) -> Result<(), ApiError> {
    if urls.is_empty() || !urls.iter().all(|url| is_usable(url.trim())) {
        return Err(ApiError::BadMemberUrls);
    }
    Ok(())
}

/// `http` and `https` need host and port, and nothing after them; `unix` and
/// `unixs` name a socket.
fn is_usable(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    match scheme {
        "http" | "https" => {
            let Some((_, port)) = rest.rsplit_once(':') else { return false };
            !rest.contains('/') && !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
        }
        "unix" | "unixs" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let check = |urls: &[&str]| peer_urls(&urls.iter().map(|u| u.to_string()).collect::<Vec<_>>());
        for good in [&["http://a:1"][..], &["https://[::1]:2380", "http://b:2"], &["unix://x:1"]] {
            assert_eq!(check(good), Ok(()), "{good:?}");
        }
        for bad in [&[][..], &["a:1"], &["http://a"], &["ftp://a:1"], &["http://a:1/x"], &["http://a:1", ""]]
        {
            assert_eq!(check(bad), Err(ApiError::BadMemberUrls), "{bad:?}");
        }
    }
}
