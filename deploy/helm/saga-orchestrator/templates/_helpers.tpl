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

{{/* The URL of a program's database, out of its secret. */}}
{{- define "saga.databaseEnv" -}}
- name: DATABASE_URL
  valueFrom:
    secretKeyRef: {name: {{ .name | quote }}, key: {{ .key | quote }}}
{{- end }}

{{- define "saga.kafkaEnv" -}}
- name: KAFKA_BOOTSTRAP_SERVERS
  value: {{ .Values.kafka.bootstrapServers | quote }}
- name: TOPIC_REPLICATION
  value: {{ .Values.kafka.topicReplication | quote }}
{{- if .Values.kafka.propertiesSecret.name }}
- name: KAFKA_PROPERTIES
  value: /etc/saga/kafka/{{ .Values.kafka.propertiesSecret.key }}
{{- end }}
{{- end }}

{{- define "saga.kafkaMount" -}}
{{- if .Values.kafka.propertiesSecret.name }}
- {name: kafka, mountPath: /etc/saga/kafka, readOnly: true}
{{- end }}
{{- end }}

{{- define "saga.kafkaVolume" -}}
{{- with .Values.kafka.propertiesSecret }}
{{- if .name }}
- name: kafka
  secret: {secretName: {{ .name | quote }}, defaultMode: 0440}
{{- end }}
{{- end }}
{{- end }}

{{/* Further variables: a map. */}}
{{- define "saga.furtherEnv" -}}
{{- range $name, $value := . }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
