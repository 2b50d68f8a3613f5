//! Where the approval service is, and who asks it.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use ureq::http::Uri;

use crate::host::Failure;
use crate::log::keys::Variables;
use crate::text::printable;

/// Environment variable with the address, where the command line has none.
const URL: &str = "TOOLGATE_APPROVALS_URL";
/// Environment variable with the token, where no file is named.
const TOKEN: &str = "TOOLGATE_APPROVALS_TOKEN";

/// Longest token, in bytes: more does not fit into the headers that servers take.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// The service, and the token that it is asked with.
pub(super) struct Service {
    /// Its address, without a slash at the end.
    pub(super) url: String,
    /// Whether it is on this machine, and asked without TLS.
    pub(super) is_plain: bool,
    /// The access token of a person.
    pub(super) token: String,
}

impl fmt::Debug for Service {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Service").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Service {
    /// The one that the command line names, or the environment.
    pub(super) fn find(
        url: Option<&str>,
        token_file: Option<&Path>,
        variables: &Variables<'_>,
    ) -> Result<Self, Failure> {
        let other = |text: &str| Failure::Other(text.to_owned());
        let url = url.map(str::to_owned).or_else(|| variables(URL)).filter(|url| !url.is_empty());
        let url =
            url.ok_or_else(|| other("where is the approval service? Name it by --url, or set TOOLGATE_APPROVALS_URL"))?;
        let (url, is_plain) = address(&url)?;
        let token = match token_file {
            Some(path) => std::fs::read_to_string(path).map_err(|error| {
                Failure::Other(format!("cannot read {}: {error}", printable(&path.display().to_string())))
            })?,
            None => variables(TOKEN).ok_or_else(|| {
                other("set TOOLGATE_APPROVALS_TOKEN to an access token of yours, or name a file with it: --token-file")
            })?,
        };
        let token = token.trim();
        let is_token =
            !token.is_empty() && token.len() <= MAX_TOKEN_BYTES && token.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_token {
            let place = token_file.map_or_else(|| TOKEN.to_owned(), |path| path.display().to_string());
            let problem = format!("{} holds no access token: put nothing but the token there", printable(&place));
            return Err(Failure::Other(problem));
        }
        Ok(Self { url, is_plain, token: token.to_owned() })
    }
}

/// The address as it is used, and whether it is one of this machine without TLS.
fn address(text: &str) -> Result<(String, bool), Failure> {
    let problem = |problem: &str| Failure::Other(format!("{} {problem}", printable(text)));
    let malformed = || problem("is no address of a service: write it as https://approvals.example");
    let uri: Uri = text.parse().map_err(|_| malformed())?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(malformed()) };
    if authority.as_str().contains('@') || authority.host().is_empty() || text.contains(['?', '#']) {
        return Err(malformed());
    }
    let is_plain = match scheme {
        "https" => false,
        "http" if is_loopback(authority.host()) => true,
        "http" => return Err(problem("would get your token unencrypted: use https, or http for this machine only")),
        _ => return Err(malformed()),
    };
    Ok((text.trim_end_matches('/').to_owned(), is_plain))
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(url: &str, token: &str) -> Result<Service, String> {
        let variables = |name: &str| (name == TOKEN).then(|| token.to_owned());
        Service::find(Some(url), None, &variables).map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_token_is_sent_encrypted_or_stays_on_the_machine() {
        for (url, is_plain) in [
            ("https://approvals.example", false),
            ("https://approvals.example:8443/team/", false),
            ("http://localhost:8787", true),
            ("http://127.0.0.1:8787/", true),
            ("http://127.9.9.9", true),
            ("http://[::1]:8787", true),
        ] {
            let service = find(url, "token").unwrap();
            assert_eq!((service.url.as_str(), service.is_plain), (url.trim_end_matches('/'), is_plain));
        }
        for url in
            ["http://approvals.example", "http://127.0.0.1.example", "http://localhost.example", "http://10.0.0.1"]
        {
            assert!(find(url, "token").unwrap_err().contains("unencrypted"), "{url}");
        }
    }

    #[test]
    fn other_addresses_are_refused() {
        for url in [
            "approvals.example",
            "ftp://approvals.example",
            "https://",
            "https://user@approvals.example",
            "https://a.example?x=1",
            "https://a.example#x",
            "https://a b",
            "file:///etc/passwd",
        ] {
            assert!(find(url, "token").unwrap_err().contains("write it as https://"), "{url}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused_and_not_shown() {
        for token in ["", " \n", "a b", "secret\r\nx-other: 1", "sécret"] {
            let problem = find("https://a.example", token).unwrap_err();
            assert!(problem.contains("TOOLGATE_APPROVALS_TOKEN holds no access token"), "{problem}");
            assert!(!problem.contains("secret"));
        }
        assert_eq!(find("https://a.example", " token\n").unwrap().token, "token");
    }

    #[test]
    fn what_is_missing_is_named() {
        let nothing = |_: &str| None;
        let problem = |url| Service::find(url, None, &nothing).unwrap_err().to_string();
        assert!(problem(None).contains("--url"));
        assert!(problem(Some("https://a.example")).contains("--token-file"));
        assert!(!format!("{:?}", find("https://a.example", "hush").unwrap()).contains("hush"));
    }
}
