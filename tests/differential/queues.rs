//! Sequences of locks and elections: queues that are entered, waited in, left and ended, with and without
//! auth.

use bytes::Bytes;
use skiff_test_support::Rng;
use skiff_test_support::pb::authpb::Permission;
use skiff_test_support::pb::etcdserverpb::*;
use skiff_test_support::pb::v3electionpb::*;
use skiff_test_support::pb::v3lockpb::*;

use crate::call::Call;
use crate::op::{NOBODY, Op, Step};
use crate::users;

/// Steps of a sequence.
const STEPS: usize = 60;
/// Leases of a sequence: 1 to this.
pub(crate) const LEASES: i64 = 5;
/// A lease that nobody has granted.
const NO_LEASE: i64 = 99;

const NAMES: &[&[u8]] = &[b"n", b"n/m", b"\xff\xfe"];
/// Where those begin and end that more than root may use.
const OPEN: (&str, &str) = ("n/", "n0");

/// Whose leadership a caller claims to have; true or not, from the claims there are when the step runs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Who {
    /// The election.
    pub(crate) name: Bytes,
    /// The claim's place in its queue; without it nobody is named.
    pub(crate) place: Option<usize>,
    /// Off the claim's revision by so much.
    pub(crate) off: i64,
    /// This lease instead of the claim's; also where there is no claim.
    pub(crate) lease: Option<i64>,
}

/// Makes a sequence; a guarded one runs with auth on.
pub(crate) fn sequence(rng: &mut Rng, guarded: bool) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    if guarded {
        steps.extend(users::guarded(OPEN.0, OPEN.1).into_iter().map(Step::from));
    }
    let grant = |id| Op::Grant(LeaseGrantRequest { id, ttl: 10_000 });
    steps.extend((1..=LEASES).map(|id| Step { caller: 0, json: false, op: grant(id) }));
    let mut generator = Generator { rng, guarded };
    steps.extend((0..STEPS).map(|_| generator.step()));
    steps
}

struct Generator<'a> {
    rng: &'a mut Rng,
    guarded: bool,
}

impl Generator<'_> {
    fn step(&mut self) -> Step {
        let caller = if self.guarded { *self.rng.pick(&[0, 0, 1, 1, 1, 2, NOBODY]) } else { NOBODY };
        let json = self.rng.chance(25);
        let op = self.op();
        match op {
            // Who may observe may do so until the end: when somebody else is found out is a matter of timing.
            Op::Observe(_) if caller != NOBODY => Step { caller: 0, json: false, op },
            // Rights are root's to change, and so that somebody uses them leases are.
            Op::Grant(_) | Op::Call(Call::RoleGrant(_) | Call::RoleRevoke(_)) => Step { caller: 0, json, op },
            op => Step { caller, json, op },
        }
    }

    fn op(&mut self) -> Op {
        // etcd 3.5 takes away the claim of a client that has gone in nobody's name, which auth refuses: such
        // a claim stays until its lease ends. Here it goes.
        let (leave, rights) = if self.guarded { (0, 4) } else { (6, 0) };
        match self.rng.weighted(&[12, 6, 20, 14, 20, 14, 8, 12, 3, leave, rights]) {
            0 => Op::Grant(LeaseGrantRequest { id: self.rng.between(1, LEASES), ttl: 10_000 }),
            1 => Op::Revoke(LeaseRevokeRequest { id: self.rng.between(1, LEASES) }),
            2 => Op::Call(Call::Lock(LockRequest { name: self.name(), lease: self.lease() })),
            3 => Op::Unlock(self.name()),
            4 => {
                let (name, lease, value) = (self.name(), self.lease(), self.value());
                Op::Call(Call::Campaign(CampaignRequest { name, lease, value }))
            }
            5 => Op::AsLeader(self.who(), Some(self.value())),
            6 => Op::Call(Call::Leader(LeaderRequest { name: self.name() })),
            7 => Op::AsLeader(self.who(), None),
            8 => Op::Observe(self.name()),
            9 => Op::Leave(self.rng.below(100) as usize),
            _ => self.rights(),
        }
    }

    /// Gives `a` the right to use the open names, or takes it away.
    fn rights(&mut self) -> Op {
        let (key, range_end) = (OPEN.0.into(), OPEN.1.into());
        let role = "r1".to_owned();
        if self.rng.chance(40) {
            let request = AuthRoleRevokePermissionRequest { role, key, range_end };
            return Op::Call(Call::RoleRevoke(request));
        }
        let perm = Some(Permission { perm_type: 2, key, range_end });
        Op::Call(Call::RoleGrant(AuthRoleGrantPermissionRequest { name: role, perm }))
    }

    fn name(&mut self) -> Bytes {
        Bytes::from_static(self.rng.pick::<&[u8]>(NAMES))
    }

    fn lease(&mut self) -> i64 {
        if self.rng.chance(4) {
            *self.rng.pick(&[NO_LEASE, -1, i64::MIN])
        } else {
            self.rng.between(1, LEASES)
        }
    }

    fn value(&mut self) -> Bytes {
        if self.rng.chance(1) { vec![b'v'; 3 << 19].into() } else { format!("v{}", self.rng.below(3)).into() }
    }

    fn who(&mut self) -> Who {
        Who {
            name: self.name(),
            place: if self.rng.chance(5) { None } else { Some(self.rng.below(2) as usize) },
            off: if self.rng.chance(10) { self.rng.between(-1, 1) } else { 0 },
            lease: if self.rng.chance(10) { Some(self.lease()) } else { None },
        }
    }
}
