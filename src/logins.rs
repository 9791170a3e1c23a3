//! How we prove to the services around us who we are: cookies and bearer tokens. Their files are read
//! again when they change, so that an operator replaces them without a restart.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use reqwest::header::{AUTHORIZATION, COOKIE, HeaderMap};
use url::Url;

use crate::config::{BearerSettings, Config, StoreKind};
use crate::failure::Result;
use crate::http::{Bearer, CookieJar, timestamp, unix_now};
use crate::metrics::{CredentialLabel, Metrics};

/// The logins of one instance.
#[derive(Debug, Default)]
pub struct Logins {
    /// For the enrollment service.
    pub enrollment: Arc<Login>,
    /// For the catalogue; its cookies go to the media hosts, too.
    pub resolver: Arc<Login>,
    /// For a task store behind HTTP, which reads its token itself: this one tells when it expires.
    pub store: Arc<Login>,
}

/// What one service is shown.
#[derive(Debug, Default)]
pub struct Login {
    pub cookies: Arc<CookieJar>,
    pub token: Option<Bearer>,
    /// Where it is shown; the media hosts of cookies are not known beforehand.
    pub endpoint: Option<Url>,
}

impl Logins {
    /// Reads every file that the configuration names. A file that two services are shown is one jar.
    ///
    /// # Errors
    /// What the first file that cannot be used says.
    pub fn open(config: &Config) -> Result<Logins> {
        let (enrollment, resolver) = (&config.enrollment, &config.resolver);
        let token = ("resolver.catalog_token", resolver.catalog_token.as_ref());
        let mut catalog = Login::open(token, resolver.cookies_file.as_deref())?;
        catalog.endpoint = resolver.catalog_endpoint.clone();
        let is_shared = enrollment.cookies_file.is_some() && enrollment.cookies_file == resolver.cookies_file;
        let own_file = enrollment.cookies_file.as_deref().filter(|_| !is_shared);
        let mut enroller = Login::open(("enrollment.token", enrollment.token.as_ref()), own_file)?;
        enroller.endpoint = enrollment.endpoint.clone();
        if is_shared {
            enroller.cookies = catalog.cookies.clone();
        }
        let token = config.store.http.token.as_ref().filter(|_| config.store.kind == StoreKind::Http);
        let store = Login::open(("store.http_token", token), None)?;
        Ok(Logins { enrollment: Arc::new(enroller), resolver: Arc::new(catalog), store: Arc::new(store) })
    }

    /// Each with what its cookies and its token are called in metrics and by `hauld check`.
    pub fn named(&self) -> [(&Login, [&'static str; 2]); 3] {
        [
            (&self.enrollment, ["enrollment_cookies", "enrollment_token"]),
            (&self.resolver, ["resolver_cookies", "catalog_token"]),
            (&self.store, ["store_cookies", "store_token"]),
        ]
    }

    /// Files of cookies that hold none.
    pub fn empty_files(&self) -> Vec<PathBuf> {
        let files = self.named().into_iter().filter_map(|(login, _)| login.cookies.of_file(None));
        files.filter(|cookies| cookies.count == 0).map(|cookies| cookies.file).collect()
    }

    /// Sets the metric of when each expires; what does not say so has no sample.
    pub fn observe(&self, metrics: &Metrics) {
        for (login, [cookies, token]) in self.named() {
            for (credential, expiry) in [(cookies, login.cookies_expiry()), (token, login.token_expiry())] {
                let label = CredentialLabel { credential };
                match expiry {
                    Some(expiry) => {
                        metrics.credential_expiry.get_or_create(&label).set(expiry);
                    }
                    None => {
                        metrics.credential_expiry.remove(&label);
                    }
                }
            }
        }
    }

    /// Reads every file again: what cannot be used stays as it was, and the log says so.
    pub fn read_again(&self) {
        for login in [&self.enrollment, &self.resolver, &self.store] {
            login.token.iter().for_each(Bearer::read_again);
        }
        self.resolver.cookies.read_again();
        if !Arc::ptr_eq(&self.enrollment.cookies, &self.resolver.cookies) {
            self.enrollment.cookies.read_again();
        }
    }
}

impl Login {
    /// `token` is a setting and what it says.
    ///
    /// # Errors
    /// When a file cannot be read, or the token is not fit for a header.
    pub fn open(token: (&'static str, Option<&BearerSettings>), cookies_file: Option<&Path>) -> Result<Login> {
        let (setting, token) = token;
        let token = token.map(|token| Bearer::open(setting, token)).transpose()?;
        let cookies = cookies_file.map(CookieJar::open).transpose()?.unwrap_or_default();
        Ok(Login { cookies: Arc::new(cookies), token, endpoint: None })
    }

    /// The headers that `url`, an address of the service itself, is shown.
    pub fn headers_for(&self, url: &Url) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.extend(self.token.iter().map(|token| (AUTHORIZATION, token.header())));
        headers.extend(self.cookies.header_for(url).map(|cookies| (COOKIE, cookies)));
        headers
    }

    /// When the first of the cookies expires that the service is shown, in Unix seconds.
    fn cookies_expiry(&self) -> Option<i64> {
        self.cookies.of_file(self.endpoint.as_ref())?.expiries.first().map(|(_, expiry)| *expiry)
    }

    fn token_expiry(&self) -> Option<i64> {
        self.token.as_ref()?.expiry()
    }

    /// What an operator has to renew when the service at `url` does not accept it: "the token in FILE
    /// and the cookies in FILE". `None` without a login.
    pub fn shown_to(&self, url: &Url) -> Option<String> {
        let token = self.token.iter().map(|token| match token.expiry().filter(|expiry| *expiry <= unix_now()) {
            Some(expiry) => format!("{} (expired at {})", token.name(), timestamp(expiry)),
            None => token.name(),
        });
        let cookies = self.cookies.of_file(Some(url)).map(|cookies| match cookies.count {
            0 => format!("{cookies}, of which none is for it"),
            _ => cookies.to_string(),
        });
        let parts: Vec<String> = token.chain(cookies).collect();
        (!parts.is_empty()).then(|| parts.join(" and "))
    }
}
