//! Raw gRPC calls with etcd's messages.

use std::time::Duration;

use futures::channel::mpsc;
use futures::{SinkExt, StreamExt};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::pb::etcdserverpb::*;

/// How long a call may take before it counts as hung.
const CALL_DEADLINE: Duration = Duration::from_secs(15);

/// Answers may be as large as a client of etcd accepts.
const MAX_MESSAGE_BYTES: usize = 2 * 1024 * 1024 * 1024 - 1;

/// A client of one server over one connection, which is made again when it breaks.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
    address: String,
    deadline: Duration,
    token: Option<AsciiMetadataValue>,
    /// Calls with one answer go through the JSON gateway.
    json: bool,
}

/// Both ends of a bidirectional stream.
#[derive(Debug)]
pub struct Duplex<Q, R> {
    sender: mpsc::Sender<Q>,
    receiver: tonic::Streaming<R>,
}

impl<Q, R> Duplex<Q, R> {
    /// Sends one message.
    ///
    /// # Errors
    /// CANCELLED when the stream has ended.
    pub async fn send(&mut self, message: Q) -> Result<(), Status> {
        self.sender.send(message).await.map_err(|_| Status::cancelled("the stream has ended"))
    }

    /// Waits for the next message; `None` when the server has ended the stream in good order.
    ///
    /// # Errors
    /// What the server ended the stream with; DEADLINE_EXCEEDED after `patience`.
    pub async fn next(&mut self, patience: Duration) -> Result<Option<R>, Status> {
        match tokio::time::timeout(patience, self.receiver.message()).await {
            Ok(message) => message,
            Err(_) => Err(Status::deadline_exceeded("no message on the stream")),
        }
    }

    /// Ends the sending side.
    pub fn close(&mut self) {
        self.sender.close_channel();
    }
}

macro_rules! calls {
    ($($name:ident: $path:literal, $request:ty => $response:ty;)*) => {
        $(
            #[doc = concat!("Calls `", $path, "`.\n\n# Errors\nThe server's error.")]
            pub async fn $name(&self, request: $request) -> Result<$response, Status> {
                self.unary(concat!("/etcdserverpb.", $path), request).await
            }
        )*
    };
}

impl Client {
    /// A client of the server at `host:port`; connects with the first call.
    ///
    /// # Panics
    /// When the address is not one.
    pub fn new(address: &str) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .unwrap_or_else(|error| panic!("{address} is not an address: {error}"))
            .connect_timeout(Duration::from_secs(2))
            .tcp_nodelay(true)
            .http2_adaptive_window(true);
        Client {
            channel: endpoint.connect_lazy(),
            address: address.to_owned(),
            deadline: CALL_DEADLINE,
            token: None,
            json: false,
        }
    }

    /// The same client with another limit for the time of a call.
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The same client, presenting a token with every call.
    ///
    /// # Panics
    /// When the token cannot stand in a header.
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.parse().expect("a token is ASCII"));
        self
    }

    /// The same client, whose calls with one request and one answer go through the JSON gateway.
    pub fn through_gateway(mut self) -> Self {
        self.json = true;
        self
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }

    fn grpc(&self) -> Grpc<Channel> {
        Grpc::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Calls a method with one request and one answer.
    ///
    /// # Errors
    /// The server's error; DEADLINE_EXCEEDED, with a text no server sends, when it hangs.
    pub async fn unary<Q, R>(&self, path: &'static str, request: Q) -> Result<R, Status>
    where
        Q: prost::Message + 'static,
        R: prost::Message + Default + 'static,
    {
        if self.json {
            let token = self.token.as_ref().and_then(|token| token.to_str().ok());
            return crate::gateway::call(&self.address, token, path, &request, self.deadline).await;
        }
        let mut grpc = self.grpc();
        let call = async {
            ready(&mut grpc).await?;
            let codec = ProstCodec::<Q, R>::default();
            grpc.unary(self.request(request), PathAndQuery::from_static(path), codec).await
        };
        match tokio::time::timeout(self.deadline, call).await {
            Ok(answer) => answer.map(tonic::Response::into_inner),
            Err(_) => Err(Status::new(Code::DeadlineExceeded, "the call hung")),
        }
    }

    /// Opens a bidirectional stream, sending `first`: servers do not answer to a stream before it.
    ///
    /// # Errors
    /// The server's error.
    pub async fn duplex<Q, R>(&self, path: &'static str, first: Q) -> Result<Duplex<Q, R>, Status>
    where
        Q: prost::Message + 'static,
        R: prost::Message + Default + 'static,
    {
        let (mut sender, messages) = mpsc::channel(1024);
        sender.send(first).await.map_err(|_| Status::internal("a fresh queue is closed"))?;
        let mut grpc = self.grpc();
        let call = async {
            ready(&mut grpc).await?;
            let codec = ProstCodec::<Q, R>::default();
            grpc.streaming(self.request(messages), PathAndQuery::from_static(path), codec).await
        };
        match tokio::time::timeout(self.deadline, call).await {
            Ok(answer) => Ok(Duplex { sender, receiver: answer?.into_inner() }),
            Err(_) => Err(Status::new(Code::DeadlineExceeded, "the call hung")),
        }
    }

    /// Calls a method that answers with a stream and collects it.
    ///
    /// # Errors
    /// The server's error.
    pub async fn collect<Q, R>(&self, path: &'static str, request: Q) -> Result<Vec<R>, Status>
    where
        Q: prost::Message + 'static,
        R: prost::Message + Default + 'static,
    {
        let call = async {
            let mut stream = self.listen(path, request).await?;
            let mut messages = Vec::new();
            while let Some(message) = stream.next().await {
                messages.push(message?);
            }
            Ok(messages)
        };
        match tokio::time::timeout(self.deadline, call).await {
            Ok(answer) => answer,
            Err(_) => Err(Status::new(Code::DeadlineExceeded, "the call hung")),
        }
    }

    /// Calls a method that answers with a stream. Servers may not answer before the first message.
    ///
    /// # Errors
    /// The server's error.
    pub async fn listen<Q, R>(&self, path: &'static str, request: Q) -> Result<tonic::Streaming<R>, Status>
    where
        Q: prost::Message + 'static,
        R: prost::Message + Default + 'static,
    {
        let mut grpc = self.grpc();
        ready(&mut grpc).await?;
        let codec = ProstCodec::<Q, R>::default();
        let path = PathAndQuery::from_static(path);
        Ok(grpc.server_streaming(self.request(request), path, codec).await?.into_inner())
    }

    calls! {
        range: "KV/Range", RangeRequest => RangeResponse;
        put: "KV/Put", PutRequest => PutResponse;
        delete_range: "KV/DeleteRange", DeleteRangeRequest => DeleteRangeResponse;
        txn: "KV/Txn", TxnRequest => TxnResponse;
        compact: "KV/Compact", CompactionRequest => CompactionResponse;
        lease_grant: "Lease/LeaseGrant", LeaseGrantRequest => LeaseGrantResponse;
        lease_revoke: "Lease/LeaseRevoke", LeaseRevokeRequest => LeaseRevokeResponse;
        lease_time_to_live: "Lease/LeaseTimeToLive", LeaseTimeToLiveRequest => LeaseTimeToLiveResponse;
        lease_leases: "Lease/LeaseLeases", LeaseLeasesRequest => LeaseLeasesResponse;
        member_add: "Cluster/MemberAdd", MemberAddRequest => MemberAddResponse;
        member_remove: "Cluster/MemberRemove", MemberRemoveRequest => MemberRemoveResponse;
        member_update: "Cluster/MemberUpdate", MemberUpdateRequest => MemberUpdateResponse;
        member_list: "Cluster/MemberList", MemberListRequest => MemberListResponse;
        member_promote: "Cluster/MemberPromote", MemberPromoteRequest => MemberPromoteResponse;
        alarm: "Maintenance/Alarm", AlarmRequest => AlarmResponse;
        status: "Maintenance/Status", StatusRequest => StatusResponse;
        defragment: "Maintenance/Defragment", DefragmentRequest => DefragmentResponse;
        hash: "Maintenance/Hash", HashRequest => HashResponse;
        hash_kv: "Maintenance/HashKV", HashKvRequest => HashKvResponse;
        downgrade: "Maintenance/Downgrade", DowngradeRequest => DowngradeResponse;
        move_leader: "Maintenance/MoveLeader", MoveLeaderRequest => MoveLeaderResponse;
        auth_enable: "Auth/AuthEnable", AuthEnableRequest => AuthEnableResponse;
        auth_disable: "Auth/AuthDisable", AuthDisableRequest => AuthDisableResponse;
        auth_status: "Auth/AuthStatus", AuthStatusRequest => AuthStatusResponse;
        authenticate: "Auth/Authenticate", AuthenticateRequest => AuthenticateResponse;
        user_add: "Auth/UserAdd", AuthUserAddRequest => AuthUserAddResponse;
        user_get: "Auth/UserGet", AuthUserGetRequest => AuthUserGetResponse;
        user_list: "Auth/UserList", AuthUserListRequest => AuthUserListResponse;
        user_delete: "Auth/UserDelete", AuthUserDeleteRequest => AuthUserDeleteResponse;
        user_change_password: "Auth/UserChangePassword", AuthUserChangePasswordRequest => AuthUserChangePasswordResponse;
        user_grant_role: "Auth/UserGrantRole", AuthUserGrantRoleRequest => AuthUserGrantRoleResponse;
        user_revoke_role: "Auth/UserRevokeRole", AuthUserRevokeRoleRequest => AuthUserRevokeRoleResponse;
        role_add: "Auth/RoleAdd", AuthRoleAddRequest => AuthRoleAddResponse;
        role_get: "Auth/RoleGet", AuthRoleGetRequest => AuthRoleGetResponse;
        role_list: "Auth/RoleList", AuthRoleListRequest => AuthRoleListResponse;
        role_delete: "Auth/RoleDelete", AuthRoleDeleteRequest => AuthRoleDeleteResponse;
        role_grant_permission: "Auth/RoleGrantPermission", AuthRoleGrantPermissionRequest => AuthRoleGrantPermissionResponse;
        role_revoke_permission: "Auth/RoleRevokePermission", AuthRoleRevokePermissionRequest => AuthRoleRevokePermissionResponse;
    }

    /// Opens a watch stream.
    ///
    /// # Errors
    /// The server's error.
    pub async fn watch(&self, first: WatchRequest) -> Result<Duplex<WatchRequest, WatchResponse>, Status> {
        self.duplex("/etcdserverpb.Watch/Watch", first).await
    }

    /// Opens a stream of lease renewals.
    ///
    /// # Errors
    /// The server's error.
    pub async fn lease_keep_alive(
        &self,
        first: LeaseKeepAliveRequest,
    ) -> Result<Duplex<LeaseKeepAliveRequest, LeaseKeepAliveResponse>, Status> {
        self.duplex("/etcdserverpb.Lease/LeaseKeepAlive", first).await
    }

    /// Reads a range as a stream of chunks.
    ///
    /// # Errors
    /// The server's error.
    pub async fn range_stream(&self, request: RangeRequest) -> Result<Vec<RangeStreamResponse>, Status> {
        self.collect("/etcdserverpb.KV/RangeStream", request).await
    }
}

async fn ready(grpc: &mut Grpc<Channel>) -> Result<(), Status> {
    grpc.ready().await.map_err(|error| Status::unavailable(format!("cannot connect: {error}")))
}

/// Wraps a request to start a watch.
pub fn create_watch(request: WatchCreateRequest) -> WatchRequest {
    WatchRequest { request_union: Some(watch_request::RequestUnion::CreateRequest(request)) }
}

/// Wraps a request to end a watch.
pub fn cancel_watch(watch_id: i64) -> WatchRequest {
    let request = WatchCancelRequest { watch_id };
    WatchRequest { request_union: Some(watch_request::RequestUnion::CancelRequest(request)) }
}

/// Wraps a request for progress.
pub fn watch_progress() -> WatchRequest {
    WatchRequest {
        request_union: Some(watch_request::RequestUnion::ProgressRequest(WatchProgressRequest {})),
    }
}
