//! Calls of etcd's lock and election services.

use tonic::{Status, Streaming};

use crate::Client;
use crate::pb::v3electionpb::*;
use crate::pb::v3lockpb::*;

macro_rules! calls {
    ($($name:ident: $path:literal, $request:ty => $response:ty;)*) => {
        impl Client {
            $(
                #[doc = concat!("Calls `", $path, "`.\n\n# Errors\nThe server's error.")]
                pub async fn $name(&self, request: $request) -> Result<$response, Status> {
                    self.unary($path, request).await
                }
            )*
        }
    };
}

calls! {
    lock: "/v3lockpb.Lock/Lock", LockRequest => LockResponse;
    unlock: "/v3lockpb.Lock/Unlock", UnlockRequest => UnlockResponse;
    campaign: "/v3electionpb.Election/Campaign", CampaignRequest => CampaignResponse;
    proclaim: "/v3electionpb.Election/Proclaim", ProclaimRequest => ProclaimResponse;
    leader: "/v3electionpb.Election/Leader", LeaderRequest => LeaderResponse;
    resign: "/v3electionpb.Election/Resign", ResignRequest => ResignResponse;
}

impl Client {
    /// Observes an election.
    ///
    /// # Errors
    /// The server's error.
    pub async fn observe(&self, request: LeaderRequest) -> Result<Streaming<LeaderResponse>, Status> {
        self.listen("/v3electionpb.Election/Observe", request).await
    }
}
