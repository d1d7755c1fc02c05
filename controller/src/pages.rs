//! Listings page by page: never more than one page of whole objects in memory, and all there is or an error, never a shorter list.

use kube::api::{Api, ListParams};
use kube::core::Resource;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// Objects that are decoded at once.
pub const PAGE: u32 = 250;

/// Hands each object that `params` selects to `each`. After an error nothing is known of those that were not handed over.
pub async fn each<K>(api: &Api<K>, params: ListParams, mut each: impl FnMut(K)) -> Result<(), kube::Error>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let mut params = params.limit(PAGE);
    loop {
        let page = api.list(&params).await?;
        page.items.into_iter().for_each(&mut each);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(()),
        }
    }
}

/// What `reduce` makes of each, of all that `params` selects.
pub async fn reduced<K, T>(api: &Api<K>, params: ListParams, reduce: impl Fn(&K) -> Option<T>) -> Result<Vec<T>, kube::Error>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let mut all = Vec::new();
    each(api, params, |object| all.extend(reduce(&object))).await?;
    Ok(all)
}
