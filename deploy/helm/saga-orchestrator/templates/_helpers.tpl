{{- define "saga.name" -}}
{{- printf "%s-orchestrator" .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{/* What selects the pods of a program: a list of the root and the program's name. */}}
{{- define "saga.selector" -}}
app.kubernetes.io/name: {{ index . 1 }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
{{- end }}

{{- define "saga.labels" -}}
{{- $root := index . 0 -}}
{{ include "saga.selector" . }}
app.kubernetes.io/part-of: saga-orchestrator
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end }}

{{- define "saga.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "saga.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "saga.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* What every program needs to reach its database: the key of the secret that holds the URL, as a list after the root. */}}
{{- define "saga.databaseEnv" -}}
{{- $root := index . 0 }}
{{- with index . 1 -}}
- name: DATABASE_URL
  valueFrom:
    secretKeyRef: {name: {{ .name | quote }}, key: {{ .key | quote }}}
{{- end }}
{{- if $root.Values.databaseCaSecret.name }}
- {name: PGSSLROOTCERT, value: /etc/saga/database-ca/ca.pem}
{{- end }}
{{- end }}

{{- define "saga.databaseMount" -}}
{{- if .Values.databaseCaSecret.name }}
- {name: database-ca, mountPath: /etc/saga/database-ca, readOnly: true}
{{- end }}
{{- end }}

{{- define "saga.databaseVolume" -}}
{{- with .Values.databaseCaSecret }}
{{- if .name }}
- name: database-ca
  secret: {secretName: {{ .name | quote }}, items: [{key: {{ .key | quote }}, path: ca.pem}], defaultMode: 0440}
{{- end }}
{{- end }}
{{- end }}

{{/* What every program that serves needs besides: Kafka, the registry, where telemetry goes. */}}
{{- define "saga.sharedEnv" -}}
- name: KAFKA_BOOTSTRAP_SERVERS
  value: {{ .Values.kafka.bootstrapServers | quote }}
- name: TOPIC_REPLICATION
  value: {{ .Values.kafka.topicReplication | quote }}
{{- if .Values.kafka.propertiesSecret.name }}
- name: KAFKA_PROPERTIES
  value: /etc/saga/kafka/{{ .Values.kafka.propertiesSecret.key }}
{{- end }}
{{- with .Values.registry }}
{{- if .url }}
- {name: SCHEMA_REGISTRY_URL, value: {{ .url | quote }}}
- {name: SCHEMA_REGISTRY_MODE, value: {{ .mode | quote }}}
{{- if .existingSecret.name }}
- name: SCHEMA_REGISTRY_USER
  valueFrom:
    secretKeyRef: {name: {{ .existingSecret.name | quote }}, key: {{ .existingSecret.usernameKey | quote }}}
- name: SCHEMA_REGISTRY_PASSWORD
  valueFrom:
    secretKeyRef: {name: {{ .existingSecret.name | quote }}, key: {{ .existingSecret.passwordKey | quote }}}
{{- end }}
{{- if .caSecret.name }}
- {name: SCHEMA_REGISTRY_CA, value: /etc/saga/registry-ca/ca.pem}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.otlp }}
{{- range $name, $value := dict "EXPORTER_OTLP_ENDPOINT" .endpoint "EXPORTER_OTLP_METRICS_ENDPOINT" .metricsEndpoint
    "TRACES_SAMPLER" .sampler "TRACES_SAMPLER_ARG" .samplerArg }}
{{- if $value }}
- {name: OTEL_{{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "saga.sharedMounts" -}}
{{- if .Values.kafka.propertiesSecret.name }}
- {name: kafka, mountPath: /etc/saga/kafka, readOnly: true}
{{- end }}
{{- if and .Values.registry.url .Values.registry.caSecret.name }}
- {name: registry-ca, mountPath: /etc/saga/registry-ca, readOnly: true}
{{- end }}
{{- include "saga.databaseMount" . }}
{{- end }}

{{- define "saga.sharedVolumes" -}}
{{- with .Values.kafka.propertiesSecret }}
{{- if .name }}
- name: kafka
  secret: {secretName: {{ .name | quote }}, defaultMode: 0440}
{{- end }}
{{- end }}
{{- with .Values.registry }}
{{- if and .url .caSecret.name }}
- name: registry-ca
  secret:
    secretName: {{ .caSecret.name | quote }}
    items: [{key: {{ .caSecret.key | quote }}, path: ca.pem}]
    defaultMode: 0440
{{- end }}
{{- end }}
{{- include "saga.databaseVolume" . }}
{{- end }}

{{/* Further variables: the values of a program. */}}
{{- define "saga.furtherEnv" -}}
{{- range $name, $value := .env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- range .extraEnv }}
{{- if hasKey $.env .name }}
{{- fail (printf "extraEnv: found %s, which is in env, allowed: one of them" .name) }}
{{- end }}
{{- end }}
{{- with .extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Ports that are to be reached, each once: those that are named, and those of the addresses that are given. */}}
{{- define "saga.egressPorts" -}}
{{- $ports := list }}
{{- range .Values.networkPolicy.egressPorts }}
{{- $ports = append $ports (int .) }}
{{- end }}
{{- range list .Values.registry.url .Values.otlp.endpoint .Values.otlp.metricsEndpoint }}
{{- if . }}
{{- $url := urlParse . }}
{{- $port := regexFind ":[0-9]+$" $url.host | trimPrefix ":" }}
{{- $ports = append $ports (int ($port | default (eq $url.scheme "https" | ternary "443" "80"))) }}
{{- end }}
{{- end }}
{{- range $ports | uniq }}
- {port: {{ . }}, protocol: TCP}
{{- end }}
{{- end }}
