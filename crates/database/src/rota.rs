//! Whose work is claimed next: tenants take turns, and within a tenant those whose work it is, its parties.
//!
//! A party is the source of events or the requester of turns. A claim walks over those that have something waiting, from
//! where the last one of this process ended, by one seek of an index for each. What it takes is shared evenly among the
//! tenants that it meets, and among the parties of each.
//!
//! Invariants: a claim costs as much whatever waits; a party is passed over only in a claim that took as much as it may,
//! or by the limits of a round, and then the next one begins behind whom this one met last.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sea_orm::Value;
use thinkwork_primitives::TenantId;
use uuid::Uuid;

use crate::{Engine, Error, Tx};

/// Tenants of one round, so that a claim stays short where many wait.
const TENANTS_MAX: usize = 16;
/// Parties of a tenant in one round.
const PARTIES_MAX: usize = 4;
/// Rounds of a claim that finds nothing to take: what waits may be others' already, or pause.
pub(crate) const ROUNDS_MAX: usize = 8;

/// A table in which work waits, with an index (tenant, party, order) of it.
pub(crate) struct Line {
    pub(crate) table: &'static str,
    pub(crate) index: &'static str,
    /// The column that names the party.
    pub(crate) party: &'static str,
    /// The column by which the work of one party is ordered.
    pub(crate) order: &'static str,
    /// What the index holds.
    pub(crate) condition: &'static str,
}

impl Line {
    /// The table, read by the index alone. PostgreSQL is told so for the whole transaction.
    pub(crate) fn source(&self, engine: Engine, alias: &str) -> String {
        let Self { table, index, .. } = self;
        match engine {
            Engine::Sqlite => format!("{table} AS {alias} INDEXED BY {index}"),
            Engine::Postgres => format!("{table} AS {alias}"),
        }
    }

    /// The first party behind this place.
    async fn seek(&self, tx: &mut Tx, behind: &Place) -> Result<Option<Party>, Error> {
        let Self { party, order, condition, .. } = self;
        let source = self.source(tx.engine(), "line");
        let (place, values): (String, Vec<Value>) = match behind {
            Place::Tenant(tenant) => ("tenant_id > $1".to_owned(), vec![(*tenant).into()]),
            Place::Party(Party { tenant, name }) => {
                (format!("(tenant_id, {party}) > ($1, $2)"), vec![(*tenant).into(), name.clone().into()])
            }
        };
        let sql = format!(
            "SELECT tenant_id, {party} AS party FROM {source} WHERE {condition} AND {place}
             ORDER BY tenant_id, {party}, {order} LIMIT 1"
        );
        let rows = tx.query(&sql, values).await?;
        let found = rows.first().map(|row| {
            Ok::<_, Error>(Party { tenant: row.try_get("", "tenant_id")?, name: row.try_get("", "party")? })
        });
        found.transpose()
    }
}

/// Somebody whose work waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Party {
    tenant: Uuid,
    name: String,
}

impl Party {
    pub(crate) fn tenant(&self) -> TenantId {
        TenantId::from_uuid(self.tenant)
    }

    pub(crate) fn is(&self, tenant: TenantId, name: &str) -> bool {
        self.tenant == tenant.uuid() && self.name == name
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

enum Place {
    Tenant(Uuid),
    Party(Party),
}

/// Where the claims of one line have got to in this process. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Rota(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    last: Uuid,
    /// Of tenants with more parties than a round takes, the one that was met last.
    left_at: HashMap<Uuid, String>,
}

impl Rota {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who comes next, to share `count`.
    pub(crate) async fn round(&self, tx: &mut Tx, line: &Line, count: u64) -> Result<Round, Error> {
        let last = self.state().last;
        let mut tenants: VecDeque<VecDeque<Party>> = VecDeque::new();
        let mut behind = Place::Tenant(last);
        let mut is_around = false;
        let is_last = loop {
            let Some(mut party) = line.seek(tx, &behind).await? else {
                if is_around {
                    break true;
                }
                is_around = true;
                behind = Place::Tenant(Uuid::nil());
                continue;
            };
            if is_around && party.tenant > last {
                break true;
            }
            let is_known = tenants.back().and_then(VecDeque::back).is_some_and(|known| known.tenant == party.tenant);
            if !is_known {
                if tenants.len() == TENANTS_MAX {
                    break false;
                }
                let left_at = self.state().left_at.remove(&party.tenant);
                if let Some(name) = left_at {
                    let next = line.seek(tx, &Place::Party(Party { tenant: party.tenant, name })).await?;
                    party = next.filter(|next| next.tenant == party.tenant).unwrap_or(party);
                }
                tenants.push_back(VecDeque::new());
            }
            let Some(parties) = tenants.back_mut() else { break true };
            parties.push_back(party.clone());
            behind = if parties.len() < PARTIES_MAX {
                Place::Party(party)
            } else {
                let tenant = party.tenant;
                self.state().left_at.insert(tenant, party.name);
                Place::Tenant(tenant)
            };
        };
        Ok(Round::new(self.clone(), tenants, count, is_last))
    }
}

/// Who takes part in one claim, and how much is left for them.
pub(crate) struct Round {
    rota: Rota,
    tenants: VecDeque<VecDeque<Party>>,
    left: u64,
    /// What is left for the present tenant.
    left_of_tenant: Option<u64>,
    /// The present party and its share.
    present: Option<(Party, u64)>,
    /// Those who took all of their share: they share what others left.
    hungry: VecDeque<VecDeque<Party>>,
    is_first_pass: bool,
    /// Whether everybody was met whose work waits.
    is_last: bool,
}

impl Round {
    fn new(rota: Rota, tenants: VecDeque<VecDeque<Party>>, left: u64, is_last: bool) -> Self {
        Self {
            rota,
            tenants,
            left,
            left_of_tenant: None,
            present: None,
            hungry: VecDeque::new(),
            is_first_pass: true,
            is_last,
        }
    }

    pub(crate) const fn is_last(&self) -> bool {
        self.is_last
    }

    /// The next party and its share.
    pub(crate) fn next(&mut self) -> Option<(Party, u64)> {
        if self.left == 0 {
            return None;
        }
        while self.tenants.front().is_some_and(VecDeque::is_empty) {
            self.tenants.pop_front();
            self.left_of_tenant = None;
        }
        if self.tenants.is_empty() {
            self.tenants = std::mem::take(&mut self.hungry);
            self.is_first_pass = false;
        }
        let tenants = u64::try_from(self.tenants.len()).unwrap_or(u64::MAX);
        let parties = self.tenants.front_mut()?;
        let of_tenant = *self.left_of_tenant.get_or_insert(self.left.div_ceil(tenants));
        let share = of_tenant.div_ceil(u64::try_from(parties.len()).unwrap_or(u64::MAX));
        let party = parties.pop_front()?;
        if self.is_first_pass {
            self.rota.state().last = party.tenant;
        }
        self.present = Some((party.clone(), share));
        Some((party, share))
    }

    /// Notes how much of its share the present party took.
    pub(crate) fn took(&mut self, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.left = self.left.saturating_sub(count);
        self.left_of_tenant = self.left_of_tenant.map(|left| left.saturating_sub(count));
        let Some((party, share)) = self.present.take() else { return };
        if count == 0 || count < share {
            return;
        }
        match self.hungry.back_mut() {
            Some(known) if known.front().is_some_and(|known| known.tenant == party.tenant) => known.push_back(party),
            _ => self.hungry.push_back(VecDeque::from([party])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(parties: &[usize], count: u64) -> Round {
        let tenants = parties.iter().enumerate().map(|(number, parties)| {
            let tenant = Uuid::from_u128(u128::try_from(number).unwrap() + 1);
            (0..*parties).map(|name| Party { tenant, name: name.to_string() }).collect()
        });
        Round::new(Rota::default(), tenants.collect(), count, true)
    }

    /// What each party gets where each has so much.
    fn shares(parties: &[&[usize]], count: u64) -> Vec<Vec<usize>> {
        let mut round = round(&parties.iter().map(|parties| parties.len()).collect::<Vec<_>>(), count);
        let mut shares: Vec<Vec<usize>> = parties.iter().map(|parties| vec![0; parties.len()]).collect();
        while let Some((party, share)) = round.next() {
            let tenant = usize::try_from(party.tenant.as_u128()).unwrap() - 1;
            let name: usize = party.name.parse().unwrap();
            let left = parties[tenant][name] - shares[tenant][name];
            let taken = usize::try_from(share).unwrap().min(left);
            shares[tenant][name] += taken;
            round.took(taken);
        }
        shares
    }

    #[test]
    fn l124_a_claim_is_shared_among_tenants_and_then_among_parties() {
        assert_eq!(shares(&[&[99]], 64), [[64]]);
        assert_eq!(shares(&[&[99, 99, 99], &[99]], 64), [vec![11, 11, 10], vec![32]]);
        assert_eq!(shares(&[&[99, 2], &[3]], 64), [vec![59, 2], vec![3]], "what some leave goes to the others");
        assert_eq!(shares(&[&[99], &[40]], 64), [[32], [32]]);
        assert_eq!(shares(&[&[99], &[0], &[0]], 64), [[64], [0], [0]]);
        assert_eq!(shares(&[&[5, 5], &[5]], 1), [vec![1, 0], vec![0]], "a small claim ends early");
        assert!(shares(&[], 64).is_empty());
    }
}
