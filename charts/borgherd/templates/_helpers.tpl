{{/*
What several templates share. Names are fixed, not made from the release's name: the custom resources, and with them Borgherd,
are there once in a cluster; so every command in NOTES and in the documentation is exact.
*/}}

{{- define "borgherd.selector" -}}
app.kubernetes.io/name: borgherd
app.kubernetes.io/component: {{ . }}
{{- end }}

{{/* (list $ component) */}}
{{- define "borgherd.labels" -}}
{{- $root := index . 0 -}}
{{- include "borgherd.selector" (index . 1) }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: borgherd
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* (list $ image): registry, name, and digest or tag */}}
{{- define "borgherd.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- $name := $image.name -}}
{{- with $root.Values.image.registry }}{{ $name = printf "%s/%s" (trimSuffix "/" .) $name }}{{ end -}}
{{- if $image.digest }}{{ printf "%s@%s" $name $image.digest }}{{ else }}{{ printf "%s:%s" $name ($root.Values.image.tag | default $root.Chart.AppVersion) }}{{ end -}}
{{- end }}

{{- define "borgherd.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Where pods may run: a workload's own values */}}
{{- define "borgherd.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "borgherd.priority" -}}
{{- with .Values.priorityClass.name }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{/* Annotations of pods that serve metrics: (list $ workload) */}}
{{- define "borgherd.podAnnotations" -}}
{{- $root := index . 0 -}}
{{- $all := dict -}}
{{- if $root.Values.metrics.annotations -}}
{{- $all = dict "prometheus.io/scrape" "true" "prometheus.io/port" "9100" "prometheus.io/path" "/metrics" -}}
{{- end -}}
{{- with merge (dict) ((index . 1).podAnnotations) $all }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Probes of both processes. A process that cannot serve /livez within a minute is restarted. */}}
{{- define "borgherd.probes" -}}
startupProbe:
  httpGet: {path: /livez, port: metrics}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /livez, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}

{{/* Security of every container but the agent's: what Pod Security calls "restricted" */}}
{{- define "borgherd.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "borgherd.server.host" -}}
borgherd-server.{{ .Release.Namespace }}.svc
{{- end }}

{{/*
The Repository objects as a JSON list of {name, spec}: those of `repositories`, and `in-cluster` for the chart's own server. Errors that
a schema cannot see are found here.
*/}}
{{- define "borgherd.repositories" -}}
{{- $made := list -}}
{{- $names := list -}}
{{- $defaults := list -}}
{{- if .Values.server.enabled }}{{ $names = append $names "in-cluster" }}{{ end -}}
{{- range $entry := .Values.repositories -}}
{{- if has .name $names -}}
{{- if eq .name "in-cluster" -}}
{{- fail "repositories: the name in-cluster belongs to the chart's own server; choose another, or set server.enabled=false" -}}
{{- end -}}
{{- fail (printf "repositories: two entries have the name %s; names must differ" .name) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- if .default }}{{ $defaults = append $defaults .name }}{{ end -}}
{{- include "borgherd.repositories.check" (list $ .) -}}
{{- $spec := dict "location" .location "secretRef" (include "borgherd.repositories.secretName" .) "default" (.default | default false) -}}
{{- range $key := list "encryption" "maxConcurrent" "rateLimit" "appendOnly" "check" "namespaces" -}}
{{- with index $entry $key }}{{ $_ := set $spec $key . }}{{ end -}}
{{- end -}}
{{- $made = append $made (dict "name" .name "spec" $spec) -}}
{{- end -}}
{{- if gt (len $defaults) 1 -}}
{{- fail (printf "repositories: %s are all marked default; leave default: true on one" (join ", " $defaults)) -}}
{{- end -}}
{{- if .Values.server.enabled -}}
{{- $location := printf "ssh://borg@%s:2222/./{namespace}/{pvc}" (include "borgherd.server.host" .) -}}
{{- $spec := dict "location" $location "secretRef" "borgherd-server" "default" (empty $defaults) -}}
{{- $made = append $made (dict "name" "in-cluster" "spec" $spec) -}}
{{- end -}}
{{- toJson $made -}}
{{- end }}

{{/* Of one entry of `repositories` */}}
{{- define "borgherd.repositories.secretName" -}}
{{- $secret := .secret | default dict -}}
{{- $secret.name | default (printf "borgherd-repository-%s" .name) -}}
{{- end }}

{{/* (list $ entry): what its parts ask of each other */}}
{{- define "borgherd.repositories.check" -}}
{{- $values := (index . 0).Values -}}
{{- $entry := index . 1 -}}
{{- $where := printf "repositories, entry %s" $entry.name -}}
{{- $secret := $entry.secret | default dict -}}
{{- if contains ".." $entry.location -}}
{{- fail (printf "%s: location %s must not contain .." $where $entry.location) -}}
{{- end -}}
{{- $rest := regexReplaceAll "\\{(cluster|namespace|pvc)\\}" $entry.location "" -}}
{{- if regexMatch "[{}]" $rest -}}
{{- fail (printf "%s: location %s has a placeholder that is not {cluster}, {namespace} or {pvc}" $where $entry.location) -}}
{{- end -}}
{{- if hasPrefix "/repositories/" $entry.location -}}
{{- $folder := index (splitList "/" $entry.location) 2 -}}
{{- $mounted := list -}}
{{- range $values.agent.repositoryVolumes }}{{ $mounted = append $mounted .name }}{{ end -}}
{{- if not (has $folder $mounted) -}}
{{- fail (printf "%s: location %s is below /repositories/%s, which nothing mounts; add an entry with name: %s to agent.repositoryVolumes" $where $entry.location $folder $folder) -}}
{{- end -}}
{{- end -}}
{{- if $secret.create -}}
{{- if and (not $secret.passphrase) (ne (default "" $entry.encryption) "none") -}}
{{- fail (printf "%s: secret.create is true, so secret.passphrase is needed (or encryption: none)" $where) -}}
{{- end -}}
{{- if hasPrefix "ssh://" $entry.location -}}
{{- if not (and $secret.sshPrivateKey $secret.knownHosts) -}}
{{- fail (printf "%s: secret.create is true and the location is ssh://, so secret.sshPrivateKey and secret.knownHosts are needed; `ssh-keyscan -p PORT HOST` prints the lines for knownHosts, compare them with the server's" $where) -}}
{{- end -}}
{{- end -}}
{{- else if or $secret.passphrase $secret.sshPrivateKey $secret.knownHosts -}}
{{- fail (printf "%s: secret.passphrase, secret.sshPrivateKey and secret.knownHosts are used with secret.create: true only" $where) -}}
{{- end -}}
{{- end }}
