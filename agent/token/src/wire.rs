//! Names of routes and headers, and codes of errors, between agents and servers.

/// Serves the bundle of authorities to anybody.
pub const CA_CERTS: &str = "/cacerts";
/// Answers `pong` to anybody.
pub const PING: &str = "/ping";
/// Where the supervisor's routes begin.
pub const PREFIX: &str = "/v1-skiff";
/// The same routes under the name that K3s gives them.
pub const K3S_PREFIX: &str = "/v1-k3s";
/// Below [`PREFIX`]: the websocket of a tunnel.
pub const CONNECT: &str = "/connect";
/// Below [`PREFIX`]: the bundle of authorities that certify clients.
pub const CLIENT_CA: &str = "/client-ca.crt";
/// Below [`PREFIX`]: a JSON list of `host:port` of the API servers.
pub const API_SERVERS: &str = "/apiservers";

/// The name a node wants to bear.
pub const NODE_NAME: &str = "skiff-node-name";
/// The password that keeps a node's name for it.
pub const NODE_PASSWORD: &str = "skiff-node-password";
/// The node's addresses, separated by commas.
pub const NODE_IP: &str = "skiff-node-ip";

/// The type of a request for a certificate: PKCS #10, in DER.
pub const CSR_TYPE: &str = "application/pkcs10";
/// The largest answer an agent reads and the largest request a server should.
pub const MAX_BODY: usize = 1 << 20;

/// The header in which a server says why it refuses: one of [`Refused`]'s names.
pub const REFUSED: &str = "skiff-refused";

/// Why a server refuses a node. Where there is no [`REFUSED`] header, status 401 says that
/// the token is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// No such token, or a wrong password; status 401.
    Token,
    /// A bootstrap token whose time is over; status 401.
    TokenExpired,
    /// Another node bears the name: its password is another one; status 403.
    NodePassword,
}

impl Refused {
    /// Every reason.
    pub const ALL: [Refused; 3] = [Refused::Token, Refused::TokenExpired, Refused::NodePassword];

    /// The value of the header.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Refused::Token => "token",
            Refused::TokenExpired => "token-expired",
            Refused::NodePassword => "node-password",
        }
    }

    /// The status that goes with it.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Refused::Token | Refused::TokenExpired => 401,
            Refused::NodePassword => 403,
        }
    }

    /// Reads an answer's status and header.
    #[must_use]
    pub fn read(status: u16, header: Option<&str>) -> Option<Self> {
        let named = Self::ALL.into_iter().find(|reason| Some(reason.name()) == header);
        match (named, status) {
            (Some(reason), status) if status == reason.status() => Some(reason),
            (_, 401) => Some(Refused::Token),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_read_as_it_is_sent() {
        for reason in Refused::ALL {
            assert_eq!(Refused::read(reason.status(), Some(reason.name())), Some(reason));
        }
        assert_eq!(Refused::read(401, None), Some(Refused::Token));
        assert_eq!(Refused::read(401, Some("node-password")), Some(Refused::Token), "the status decides");
        assert_eq!(Refused::read(403, None), None);
        assert_eq!(Refused::read(503, Some("token")), None);
    }
}
