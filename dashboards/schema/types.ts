// What a dashboard of ours may be: Grafana's published types, panel by panel.
//
// - A misspelt key, a word that is no member of its set and a number where there is text are errors; so is a kind of panel that is not named here.
// - Grafana publishes no types of Prometheus' queries under a licence that suits us: `Query` and `Mark` say what its editors write.

import type { AnnotationQuery, Dashboard, DataQuery, FieldConfig, FieldConfigSource, Panel, RowPanel } from '@grafana/schema';
import type { FieldConfig as HeatmapField, Options as Heatmap } from '@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen';
import type { Options as Stat } from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type { FieldConfig as SeriesField, Options as Series } from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

/** A type as it stands in a file: members of an enumeration are their words. */
type Json<T> = unknown extends T ? T
  : T extends string ? `${T}`
  : T extends number | boolean | null | undefined ? T
  : T extends Array<infer Item> ? Array<Json<Item>>
  : { [Key in keyof T]: Json<T[Key]> };

interface Query extends DataQuery {
  expr: string;
  legendFormat?: string;
  interval?: string;
  format?: 'time_series' | 'table' | 'heatmap';
  instant?: boolean;
  range?: boolean;
  exemplar?: boolean;
  editorMode?: 'code' | 'builder';
}

interface Mark extends AnnotationQuery<Query> {
  target: Query;
  titleFormat?: string;
  textFormat?: string;
  tagKeys?: string;
  useValueForTime?: boolean;
}

/** Options are Grafana's own types here, not the bags of anything that a panel as such has. */
type PanelOf<Kind extends string, Options, Field> = Omit<Json<Panel>, 'type' | 'options' | 'fieldConfig' | 'targets'> & {
  type: Kind;
  options: Json<Options>;
  fieldConfig: Omit<Json<FieldConfigSource>, 'defaults'> & { defaults: Omit<Json<FieldConfig>, 'custom'> & { custom?: Json<Field> } };
  targets: Array<Json<Query>>;
};

type Row = Omit<Json<RowPanel>, 'type'> & { type: 'row' };

export type Checked = Omit<Json<Dashboard>, 'annotations' | 'panels'> & {
  annotations: { list: Array<Json<Mark>> };
  panels: Array<PanelOf<'timeseries', Series, SeriesField> | PanelOf<'stat', Stat, {}> | PanelOf<'heatmap', Heatmap, HeatmapField> | Row>;
};
