//! Tokens that open databases. The platform's own opens none.

use mt_core::{Result, Secret};
use reqwest::Method;
use url::Url;

use super::{
    Authorization, Expiration, PlatformClient, TokenScope,
    error::Cause,
    transport::{Call, Request},
    wire::Jwt,
};

impl PlatformClient {
    /// Mints a token that opens `scope`. It cannot be taken back but by [`rotate`](Self::rotate),
    /// so let it expire soon; [`Tokens`](crate::Tokens) keeps and renews them.
    ///
    /// # Errors
    /// Those of [`PlatformClient`].
    pub async fn mint_token(
        &self,
        scope: TokenScope<'_>,
        authorization: Authorization,
        expiration: Expiration,
    ) -> Result<Secret> {
        let call = self.on_scope("mint a token for", scope)?;
        let mut url = self.keys(scope, "tokens");
        url.query_pairs_mut()
            .append_pair("expiration", &expiration.to_string())
            .append_pair("authorization", authorization.as_str());
        // Minted twice, one of them is never used. No body: an empty list of permissions makes
        // some databases refuse.
        let request = Request::idempotent(Method::POST, url);
        let minted = self.transport().fetch::<Jwt>(&call, &request).await;
        match minted {
            Ok(Jwt { jwt }) if !jwt.is_empty() && jwt.bytes().all(|b| b.is_ascii_graphic()) => {
                Ok(Secret::new(jwt))
            }
            Ok(_) => Err(call.failed(Cause::Malformed("it holds no token".to_owned())).into()),
            Err(cause) => Err(call.failed(cause).into()),
        }
    }

    /// Makes **all** tokens of `scope` worthless, whoever has them, by giving it new keys. Then
    /// call [`Tokens::forget`](crate::Tokens::forget).
    ///
    /// Not repeated once it was sent: a second time would end the tokens minted in between.
    ///
    /// # Errors
    /// `OutcomeUnknown`: the answer was lost, so old tokens may still be good.
    pub async fn rotate(&self, scope: TokenScope<'_>) -> Result<()> {
        let call = self.on_scope("rotate the keys of", scope)?;
        let request = Request::once(Method::POST, self.keys(scope, "rotate")).with_empty_answer();
        match self.transport().run(&call, &request).await {
            Ok(_) => Ok(()),
            Err(cause) => Err(call.failed(cause).into()),
        }
    }

    fn keys(&self, scope: TokenScope<'_>, what: &'static str) -> Url {
        match scope {
            TokenScope::Database(name) => self.url(["databases", name, "auth", what]),
            TokenScope::Group(name) => self.url(["groups", name, "auth", what]),
        }
    }

    fn on_scope(&self, verb: &'static str, scope: TokenScope<'_>) -> Result<Call> {
        match scope {
            TokenScope::Database(name) => self.on_database(verb, name),
            TokenScope::Group(name) => self.on_group(verb, name),
        }
    }
}
