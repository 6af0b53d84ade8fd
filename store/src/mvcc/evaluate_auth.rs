//! Evaluation of commands that change users, roles and tokens.

use prost::Message;

use crate::api::WriteReply;
use crate::auth::{Row, SimpleTokens, TokenChange};
use crate::engine::Cf;
use crate::error::{ApiError, Result};
use crate::mvcc::FORMAT;
use crate::mvcc::evaluate::{Evaluator, unknown_command};
use crate::mvcc::read::header;
use crate::mvcc::state::{FORMAT_ROW, ROLE_PREFIX, USER_PREFIX, named_row};
use crate::pb::etcdserverpb as pb;
use crate::pb::skiff::v1::{AuthChange, Authenticate};

impl Evaluator {
    pub(super) fn auth(&mut self, request: &AuthChange) -> Result<WriteReply> {
        let change = request.change.as_ref().ok_or_else(unknown_command)?;
        let state = &mut self.view.state;
        let changed = state.auth.change(change)?;
        for row in changed.rows {
            match row {
                Row::PutUser(user) => {
                    self.batch.put(Cf::Meta, named_row(USER_PREFIX, &user.name), user.encode_to_vec());
                }
                Row::PutRole(role) => {
                    self.batch.put(Cf::Meta, named_row(ROLE_PREFIX, &role.name), role.encode_to_vec());
                }
                Row::DeleteUser(name) => self.batch.delete(Cf::Meta, named_row(USER_PREFIX, &name)),
                Row::DeleteRole(name) => self.batch.delete(Cf::Meta, named_row(ROLE_PREFIX, &name)),
            }
        }
        if state.auth.enabled() && !state.stored.auth_enabled {
            // A binary that knows no users must not serve this store to anyone.
            self.batch.put(Cf::Meta, FORMAT_ROW, FORMAT.to_be_bytes().to_vec());
        }
        state.stored.auth_enabled = state.auth.enabled();
        state.stored.auth_revision = state.auth.revision();
        self.tokens.extend(changed.tokens);
        Ok(WriteReply::Done(self.revision()))
    }

    /// Gives a token to a user whose password was checked at the same auth
    /// revision: it may have been changed since, or the user deleted.
    pub(super) fn authenticate(&mut self, request: &Authenticate) -> Result<pb::AuthenticateResponse> {
        let auth = &self.view.state.auth;
        auth.credentials(&request.user)?;
        if request.auth_revision != auth.revision() {
            return Err(ApiError::AuthOldRevision.into());
        }
        let token = SimpleTokens::name(&request.token_prefix, self.index);
        let user = request.user.clone();
        self.tokens.push(TokenChange::Assigned { token: token.clone(), user, index: self.index });
        Ok(pb::AuthenticateResponse { header: header(self.revision()), token })
    }
}
