//! Where a connection comes from.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// The other end of the connection, as the proxy knows it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Peer {
    /// Its address. Behind a load balancer this is what Envoy takes from `x-forwarded-for`, if it is configured to
    /// trust it (`use_remote_address`, `xff_num_trusted_hops`).
    pub address: Option<IpAddr>,
    /// The first URI name of its verified client certificate.
    pub uri_san: Option<String>,
    /// The first DNS name of its verified client certificate.
    pub dns_san: Option<String>,
}

impl Peer {
    /// Reads Envoy's `source.address`: an IP address with a port. Nothing else is an address.
    pub fn parse_address(text: &str) -> Option<IpAddr> {
        text.parse::<SocketAddr>().ok().map(|address| address.ip().to_canonical())
    }
}

/// What of a [`Peer`] a policy judges by. Each question to the proxy costs about a microsecond.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PeerNeeds {
    /// Its address.
    pub address: bool,
    /// Names of its certificate.
    pub certificate: bool,
}

/// Where a client may call from. Each kind that is named must fit.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// Networks.
    pub cidrs: Vec<IpNet>,
    /// URI names of client certificates, such as SPIFFE ids.
    pub uri_sans: Vec<String>,
    /// DNS names of client certificates.
    pub dns_sans: Vec<String>,
}

impl Source {
    /// What must be known of a connection.
    pub const fn needs(&self) -> PeerNeeds {
        let certificate = !self.uri_sans.is_empty() || !self.dns_sans.is_empty();
        PeerNeeds { address: !self.cidrs.is_empty(), certificate }
    }

    /// Whether the connection is from there. What the proxy does not know does not fit.
    pub fn fits(&self, peer: &Peer) -> bool {
        let is_named =
            |names: &[String], name: Option<&String>| names.is_empty() || name.is_some_and(|name| names.contains(name));
        (self.cidrs.is_empty() || peer.address.is_some_and(|at| self.cidrs.iter().any(|cidr| cidr.contains(&at))))
            && is_named(&self.uri_sans, peer.uri_san.as_ref())
            && is_named(&self.dns_sans, peer.dns_san.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_that_is_named_must_fit() {
        let source = Source {
            cidrs: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
            uri_sans: vec!["spiffe://norg/a".to_owned()],
            dns_sans: Vec::new(),
        };
        let peer = |address: &str, uri: Option<&str>| Peer {
            address: Peer::parse_address(address),
            uri_san: uri.map(str::to_owned),
            dns_san: None,
        };
        assert!(source.fits(&peer("10.1.2.3:80", Some("spiffe://norg/a"))));
        assert!(source.fits(&peer("[::ffff:10.1.2.3]:80", Some("spiffe://norg/a"))));
        assert!(source.fits(&peer("[fd00::1]:80", Some("spiffe://norg/a"))));
        for (address, uri) in [
            ("11.1.2.3:80", Some("spiffe://norg/a")),
            ("10.1.2.3:80", Some("spiffe://norg/b")),
            ("10.1.2.3:80", None),
            ("10.1.2.3", Some("spiffe://norg/a")),
            ("/run/socket", Some("spiffe://norg/a")),
            ("", Some("spiffe://norg/a")),
        ] {
            assert!(!source.fits(&peer(address, uri)), "{address} {uri:?}");
        }
        assert!(!Source { dns_sans: vec!["a".to_owned()], ..Source::default() }.fits(&Peer::default()));
    }
}
