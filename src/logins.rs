//! How we prove to the services around us who we are: cookies and bearer tokens. Their files are read
//! again when they change, so that an operator replaces them without a restart.

use std::path::Path;
use std::sync::Arc;

use reqwest::header::{AUTHORIZATION, COOKIE, HeaderMap};
use url::Url;

use crate::config::{BearerSettings, Config};
use crate::failure::Result;
use crate::http::{Bearer, Cookies};

/// The logins of one instance.
#[derive(Debug)]
pub struct Logins {
    /// For the enrollment service.
    pub enrollment: Arc<Login>,
    /// For the catalogue; its cookies go to the media hosts, too.
    pub resolver: Arc<Login>,
}

/// What one service is shown.
#[derive(Debug, Default)]
pub struct Login {
    pub cookies: Arc<Cookies>,
    pub token: Option<Bearer>,
}

impl Logins {
    /// Reads every file that the configuration names.
    ///
    /// # Errors
    /// What the first file that cannot be used says.
    pub fn open(config: &Config) -> Result<Logins> {
        let (enrollment, resolver) = (&config.enrollment, &config.resolver);
        let token = ("enrollment.token", enrollment.token.as_ref());
        let enrollment = Login::open(token, enrollment.cookies_file.as_deref())?;
        let token = ("resolver.catalog_token", resolver.catalog_token.as_ref());
        let resolver = Login::open(token, resolver.cookies_file.as_deref())?;
        Ok(Logins { enrollment: Arc::new(enrollment), resolver: Arc::new(resolver) })
    }

    /// Reads every file again: what cannot be used stays as it was, and the log says so.
    pub fn read_again(&self) {
        for login in [&self.enrollment, &self.resolver] {
            login.token.iter().for_each(Bearer::read_again);
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
        let cookies = cookies_file.map(Cookies::load).transpose()?.unwrap_or_default();
        Ok(Login { cookies: Arc::new(cookies), token })
    }

    /// The headers that `url`, an address of the service itself, is shown.
    pub fn headers_for(&self, url: &Url) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.extend(self.token.iter().map(|token| (AUTHORIZATION, token.header())));
        let cookies = self.cookies.header_for(url, jiff::Timestamp::now().as_second());
        headers.extend(cookies.map(|cookies| (COOKIE, cookies)));
        headers
    }
}
