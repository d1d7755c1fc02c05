//! The command line as a person calls it, built from this checkout, and other people than the administrator.

use crate::exec::Output;
use crate::wait::DEADLINE;
use crate::world::World;
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::config::{AuthInfo, Kubeconfig};
use kube::{Api, Client, Config};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::Command;

impl World {
    /// `borgherd ARGUMENTS` in the test's namespace, as cluster administrator, however it ends.
    pub async fn cli(&self, arguments: &[&str]) -> Result<Output> {
        self.cli_with(arguments, None).await
    }

    /// The same, with a kubeconfig.
    pub async fn cli_with(&self, arguments: &[&str], kubeconfig: Option<&Path>) -> Result<Output> {
        let mut command = Command::new(self.cli_binary()?);
        command.args(arguments).args(["--namespace", &self.namespace]);
        if let Some(file) = kubeconfig {
            command.arg("--kubeconfig").arg(file);
        }
        self.call(&mut command).await
    }

    /// Runs a program of this machine to its end: what a person types.
    pub async fn call(&self, command: &mut Command) -> Result<Output> {
        command.env("BORGHERD_NAMESPACE", self.own_namespace()).stdin(Stdio::null()).kill_on_drop(true);
        let shown = format!("{:?}", command.as_std());
        let ended = tokio::time::timeout(DEADLINE, command.output());
        let output = ended.await.with_context(|| format!("does not end: {shown}"))?.with_context(|| shown.clone())?;
        Ok(Output {
            code: output.status.code().with_context(|| format!("was killed: {shown}"))?,
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Where `borgherd` is: cargo has put it beside the tests. They do not call cargo for it: what it sets for tests makes another one that is
    /// called by them compile half of everything anew, and the next one again.
    pub fn cli_binary(&self) -> Result<PathBuf> {
        let tests = std::env::current_exe()?;
        let built = tests.ancestors().nth(2).context("the tests are not in a target folder")?.join("borgherd");
        ensure!(
            built.exists(),
            "{} is not there: hack/test e2e builds it, as does cargo build --workspace --bin borgherd",
            built.display()
        );
        Ok(built)
    }

    /// Where programs are found.
    pub fn path(&self) -> &str {
        &self.settings.path
    }

    /// The API server as it looks to somebody else.
    pub async fn as_user(&self, user: &str, groups: &[&str]) -> Result<Client> {
        let mut config = Config::infer().await?;
        config.auth_info.impersonate = Some(user.to_owned());
        config.auth_info.impersonate_groups = Some(groups.iter().map(|&g| g.to_owned()).collect());
        Ok(Client::try_from(config)?)
    }

    /// The same for a ServiceAccount.
    pub async fn as_account(&self, namespace: &str, account: &str) -> Result<Client> {
        let user = format!("system:serviceaccount:{namespace}:{account}");
        let of_namespace = format!("system:serviceaccounts:{namespace}");
        self.as_user(&user, &["system:serviceaccounts", &of_namespace, "system:authenticated"]).await
    }

    /// Makes a ServiceAccount without any right in the test's namespace, and a kubeconfig of it at `file`.
    pub async fn kubeconfig_of_nobody(&self, account: &str, file: &Path) -> Result<()> {
        let accounts: Api<ServiceAccount> = self.api();
        let mut object = ServiceAccount::default();
        object.metadata.name = Some(account.to_owned());
        drop(accounts.create(&PostParams::default(), &object).await?);
        let request = TokenRequest {
            spec: TokenRequestSpec { expiration_seconds: Some(3600), ..TokenRequestSpec::default() },
            ..TokenRequest::default()
        };
        let request = accounts.create_token_request(account, &PostParams::default(), &request).await?;
        let token = request.status.context("no token was given")?.token;
        let mut kubeconfig = Kubeconfig::read().or_else(|_| Kubeconfig::from_env().map(Option::unwrap_or_default))?;
        for user in &mut kubeconfig.auth_infos {
            user.auth_info = Some(AuthInfo { token: Some(token.clone().into()), ..AuthInfo::default() });
        }
        // relative paths in it are relative to the file that it was read from
        ensure!(!kubeconfig.auth_infos.is_empty(), "the kubeconfig names no user");
        std::fs::write(file, serde_yaml::to_string(&kubeconfig)?)?;
        Ok(())
    }
}
